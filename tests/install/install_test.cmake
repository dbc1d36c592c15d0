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

# The manual page and the completions lie where man and the shells look, and are made by the program that is installed.
foreach(page IN ITEMS ${MANDIR}/man1/lapidary.1=manual
    "${DATADIR}/bash-completion/completions/lapidary=completion;bash"
    "${DATADIR}/zsh/site-functions/_lapidary=completion;zsh"
    "${DATADIR}/fish/vendor_completions.d/lapidary.fish=completion;fish")
  string(REPLACE "=" ";" words "${page}")
  list(POP_FRONT words file)
  if(NOT EXISTS ${WORK}/prefix/${file})
    message(FATAL_ERROR "expected ${file} to be installed")
  endif()
  file(READ ${WORK}/prefix/${file} text)
  run(${WORK}/prefix/${BINDIR}/lapidary ${words})
  if(NOT text STREQUAL output OR text STREQUAL "")
    message(FATAL_ERROR "${file} is not what the program prints")
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
