# remember(PREFIX MORE…): the value of every variable, in global properties that begin with PREFIX. Not those of the
# function itself, nor what CMake keeps of the call, nor names that one of the expressions MORE fits.
function(remember prefix)
  get_cmake_property(names VARIABLES)
  list(JOIN ARGN "|" more)
  list(FILTER names EXCLUDE REGEX "^(ARG[CNV].*|prefix|names|more|CMAKE_CURRENT_FUNCTION.*)$")
  if(NOT more STREQUAL "")
    list(FILTER names EXCLUDE REGEX "^(${more})$")
  endif()
  set_property(GLOBAL PROPERTY ${prefix}_NAMES "${names}")
  foreach(name_of_one IN LISTS names)
    set_property(GLOBAL PROPERTY ${prefix}_${name_of_one} "${${name_of_one}}")
  endforeach()
endfunction()
