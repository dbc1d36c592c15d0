function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE errors)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${ARGN}\nended with ${status}\n${output}\n${errors}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

# Asks PROGRAM for a completion twice: there must be text, and the same text again.
function(complete program model prompt)
  run(${program} ${model} ${prompt})
  set(first "${output}")
  run(${program} ${model} ${prompt})
  if(first STREQUAL "" OR NOT first STREQUAL output)
    message(FATAL_ERROR "${program} ${model}: expected one text twice, got '${first}' and '${output}'")
  endif()
  message(STATUS "${prompt} →${first}")
endfunction()

file(REMOVE_RECURSE ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix --config ${CONFIG})

# The manual page and the completions are made by the program that is installed.
file(GLOB_RECURSE pages ${WORK}/prefix/lapidary.1 ${WORK}/prefix/_lapidary ${WORK}/prefix/lapidary.fish)
list(LENGTH pages count)
if(NOT count EQUAL 3)
  message(FATAL_ERROR "expected a manual page and completions for zsh and fish, found: ${pages}")
endif()
foreach(page IN LISTS pages)
  file(READ ${page} text)
  string(FIND "${text}" "retry" place)
  if(place EQUAL -1)
    message(FATAL_ERROR "${page} does not know the options")
  endif()
endforeach()

# Nothing of the source or the build tree may leak into what was installed.
file(GLOB package ${WORK}/prefix/${LIBDIR}/cmake/Lapidary/*.cmake)
foreach(file IN LISTS package)
  file(READ ${file} text)
  string(FIND "${text}" "${BUILD}" place)
  if(NOT place EQUAL -1)
    message(FATAL_ERROR "${file} names the build folder ${BUILD}")
  endif()
endforeach()

run(${CMAKE_COMMAND} -S ${SOURCE}/consumer -B ${WORK}/consumer -G ${GENERATOR}
  -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_PREFIX_PATH=${WORK}/prefix -DCMAKE_BUILD_TYPE=${CONFIG})
run(${CMAKE_COMMAND} --build ${WORK}/consumer)
complete(${WORK}/consumer/consumer ${TINY} "Hello")

# pkg-config is optional on the machine, as it is for a consumer.
find_program(PKG_CONFIG pkg-config)
if(PKG_CONFIG)
  file(GLOB_RECURSE pc ${WORK}/prefix/lapidary.pc)
  # By its name: a path with blanks would be taken for several packages.
  get_filename_component(folder ${pc} DIRECTORY)
  execute_process(COMMAND ${CMAKE_COMMAND} -E env PKG_CONFIG_PATH=${folder} ${PKG_CONFIG} --cflags --libs lapidary
    OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(flags UNIX_COMMAND "${flags}")
  run(${CXX} -std=c++20 ${SOURCE}/consumer/consumer.cpp -o ${WORK}/by-pkg-config ${flags})
  complete(${WORK}/by-pkg-config ${TINY} "Hello")
endif()

if(EXISTS "${MODEL}")
  complete(${WORK}/consumer/consumer ${MODEL} "The capital of France is")
endif()
