include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)

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
  expect_no_text("${file}" "${text}" "${BUILD}")
endforeach()

# The components: what runs, what builds, nothing twice and nothing left out. Each has the licences.
foreach(component IN ITEMS runtime dev)
  run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/${component} --config ${CONFIG} --component ${component})
  file(GLOB_RECURSE ${component} RELATIVE ${WORK}/${component} ${WORK}/${component}/*)
  list(FILTER ${component} EXCLUDE REGEX "\\.cmake$")
  foreach(licence IN ITEMS LICENSE THIRD-PARTY.md)
    if(NOT "${${component}}" MATCHES "share/doc/[a-z-]*/${licence}")
      message(FATAL_ERROR "component ${component} has no ${licence}: ${${component}}")
    endif()
  endforeach()
endforeach()
file(GLOB_RECURSE whole RELATIVE ${WORK}/prefix ${WORK}/prefix/*)
list(FILTER whole EXCLUDE REGEX "\\.cmake$")
set(parts ${runtime} ${dev})
list(SORT whole)
list(SORT parts)
if(NOT whole STREQUAL parts)
  message(FATAL_ERROR "the whole is not the sum of its components:\n${whole}\n${parts}")
endif()
if(NOT "${runtime}" MATCHES "bin/lapidary" OR "${runtime}" MATCHES "\\.h;|\\.pc|\\.a;"
    OR "${dev}" MATCHES "bin/lapidary")
  message(FATAL_ERROR "not where they belong:\nruntime: ${runtime}\ndev: ${dev}")
endif()
# A program runs with the first alone.
run(${WORK}/runtime/bin/lapidary generate -m ${TINY} --temp 0 -n 4 -p Hello)

configure(${SOURCE}/consumer ${WORK}/consumer -DCMAKE_PREFIX_PATH=${WORK}/prefix -DCMAKE_BUILD_TYPE=${CONFIG})
run(${CMAKE_COMMAND} --build ${WORK}/consumer)
complete(${WORK}/consumer/consumer ${TINY} "Hello")

# pkg-config is optional on the machine, as it is for a consumer. It finds the package by its name: a path with blanks
# would be taken for several packages.
find_program(PKG_CONFIG pkg-config)
if(PKG_CONFIG)
  file(GLOB_RECURSE pc ${WORK}/prefix/lapidary.pc)
  get_filename_component(folder ${pc} DIRECTORY)
  set(ENV{PKG_CONFIG_PATH} ${folder})
  set(ENV{LD_LIBRARY_PATH} ${WORK}/prefix/${LIBDIR})
  foreach(static IN ITEMS "" --static)
    if(SHARED AND static)
      continue()
    endif()
    run(${PKG_CONFIG} --cflags --libs ${static} lapidary)
    string(STRIP "${output}" flags)
    if(SHARED)
      expect_no_text("flags of a shared library" "${flags}" "sentencepiece")
    endif()
    # What static libraries of libheif's own would need is nobody's who links it shared.
    if(NOT static)
      separate_arguments(flags UNIX_COMMAND "${flags}")
      run(${CXX} -std=c++20 ${SOURCE}/consumer/consumer.cpp -o ${WORK}/by-pkg-config ${flags})
      complete(${WORK}/by-pkg-config ${TINY} "Hello")
    endif()
  endforeach()
  run(${PKG_CONFIG} --print-requires --print-requires-private lapidary)
  expect_text("what the package requires" "${output}" "sentencepiece")
endif()

if(EXISTS "${MODEL}")
  complete(${WORK}/consumer/consumer ${MODEL} "The capital of France is")
endif()
