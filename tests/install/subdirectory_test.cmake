# add_subdirectory: no build type, no variable of the parent's, nothing installed unless asked. Nothing is compiled
# here; tools/test.sh --long builds it.
include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)

set(work ${WORK}-subdirectory)
file(REMOVE_RECURSE ${work})
set(ENV{CXXFLAGS})
set(ENV{CMAKE_BUILD_TYPE})
configure(${SOURCE}/subdirectory ${work}/build -DLAPIDARY_FOLDER=${ROOT})
run(${CMAKE_COMMAND} --install ${work}/build --prefix ${work}/prefix)
file(GLOB_RECURSE installed RELATIVE ${work}/prefix ${work}/prefix/*)
if(NOT installed STREQUAL "parent/CMakeLists.txt")
  message(FATAL_ERROR "expected nothing of Lapidary to be installed, found: ${installed}")
endif()

# Where it is asked for, the parent installs it: what is put down is checked by the test of the package, so it is enough
# that the rules are there.
configure(${SOURCE}/subdirectory ${work}/asked -DLAPIDARY_FOLDER=${ROOT} -DLAPIDARY_INSTALL=ON)
file(READ ${work}/asked/lapidary/cmake_install.cmake rules)
expect_text("the parent's installation" "${rules}" "LapidaryConfig.cmake")
