# The library in a plugin that is loaded, closed and loaded again: nothing of it is in others' way, and errors are
# caught.
include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)

configure(${SOURCE}/plugin ${WORK}/plugin -DCMAKE_PREFIX_PATH=${WORK}/prefix -DCMAKE_BUILD_TYPE=${CONFIG})
run(${CMAKE_COMMAND} --build ${WORK}/plugin)
set(plugin ${WORK}/plugin/libplugin.so)
run(${WORK}/plugin/host ${plugin} ${TINY} "Hello")
set(ids "${output}")
message(STATUS "Hello → ${ids}")
if(SHARED)
  run(${WORK}/plugin/user ${plugin} ${TINY} "Hello")
  if(NOT output STREQUAL ids)
    message(FATAL_ERROR "expected ${ids}, got ${output}")
  endif()
endif()

# A plugin with the static library inside shows its own two functions and none of the library's. (Templates of the
# standard library are in sight, as from every static library of C++; a plugin that minds has a linker script of its
# own.)
find_program(NM nm)
if(NM)
  run(${NM} -D -C --defined-only ${plugin})
  expect_text("symbols of the plugin" "${output}" "plugin_complete")
  if(output MATCHES "[0-9a-f]+ [A-Za-z] ((typeinfo|typeinfo name|vtable) for )?lapidary::")
    message(FATAL_ERROR "the plugin shows what is the library's:\n${output}")
  endif()
endif()
