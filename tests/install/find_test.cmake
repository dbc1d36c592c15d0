# find_package(Lapidary) finds, or says what is missing without stopping the project, and touches no variable.
include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)

# find(NAME RESULT OPTIONS…): configures the project and expects what find_package says to begin with RESULT.
function(find name result)
  run(${CMAKE_COMMAND} -S ${SOURCE}/find -B ${WORK}/find-${name} -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${CXX}
    -DCMAKE_PREFIX_PATH=${WORK}/prefix ${ARGN})
  file(READ ${WORK}/find-${name}/result.txt text)
  string(FIND "${text}" "${result}" place)
  if(NOT place EQUAL 0)
    message(FATAL_ERROR "${name}: expected '${result}', got '${text}'")
  endif()
endfunction()

find(plain "found" -DLANGUAGES=CXX)
find(component "missing: Lapidary has no components, and so none called parser" -DLANGUAGES=CXX -DCOMPONENTS=parser)
find(language "missing: Lapidary is a C++ library" -DLANGUAGES=NONE)

if(SHARED)
  # All that it links is inside.
  find(missing "found" -DLANGUAGES=CXX -DCMAKE_IGNORE_PREFIX_PATH=/usr -DDISABLE=JPEG)
else()
  find(missing "missing: libsentencepiece was not found; install libsentencepiece-dev" -DLANGUAGES=CXX
    -DCMAKE_IGNORE_PREFIX_PATH=/usr)
  file(READ ${WORK}/prefix/${LIBDIR}/cmake/Lapidary/LapidaryConfig.cmake config)
  if(config MATCHES " jpeg")
    find(disabled "missing: libjpeg was not found; install libjpeg62-turbo-dev" -DLANGUAGES=CXX -DDISABLE=JPEG)
  endif()
  # Where it is required the message is what stops the project.
  file(WRITE ${WORK}/required/CMakeLists.txt
    "cmake_minimum_required(VERSION 3.25)\nproject(required LANGUAGES CXX)\nfind_package(Lapidary REQUIRED)\n")
  execute_process(COMMAND ${CMAKE_COMMAND} -S ${WORK}/required -B ${WORK}/required/build -G ${GENERATOR}
    -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_PREFIX_PATH=${WORK}/prefix -DCMAKE_IGNORE_PREFIX_PATH=/usr
    RESULT_VARIABLE status ERROR_VARIABLE errors OUTPUT_QUIET)
  if(status EQUAL 0)
    message(FATAL_ERROR "a required package was not found, and the project went on")
  endif()
  expect_text("required" "${errors}" "libsentencepiece was not found")
endif()
