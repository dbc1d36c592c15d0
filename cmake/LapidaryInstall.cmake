# `cmake --install` puts down the library, its public headers (the command line installs itself), and what find_package(Lapidary CONFIG)
# and pkg-config need to find them.

if(LAPIDARY_KERNELS_ONLY)
  return()
endif()
include(CMakePackageConfigHelpers)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/Lapidary)

install(TARGETS lapidary EXPORT LapidaryTargets)
install(DIRECTORY include/lapidary DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(EXPORT LapidaryTargets NAMESPACE lapidary:: DESTINATION ${package_folder})

set(BUILD_SHARED_LIBS_VALUE OFF)
if(BUILD_SHARED_LIBS)
  set(BUILD_SHARED_LIBS_VALUE ON)
endif()
configure_package_config_file(cmake/LapidaryConfig.cmake.in LapidaryConfig.cmake
  INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(LapidaryConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/LapidaryConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/LapidaryConfigVersion.cmake
  cmake/LapidaryDependencies.cmake
  DESTINATION ${package_folder})

# pkg-config has no notion of "static by default": the static library's links go into Libs, where every user gets them.
set(LAPIDARY_PC_LIBDIR ${CMAKE_INSTALL_FULL_LIBDIR})
set(LAPIDARY_PC_INCLUDEDIR ${CMAKE_INSTALL_FULL_INCLUDEDIR})
set(links " -lsentencepiece -pthread")
if(LAPIDARY_OPENMP)
  string(APPEND links " ${OpenMP_CXX_FLAGS}")
endif()
set(LAPIDARY_PC_LIBS "")
set(LAPIDARY_PC_LIBS_PRIVATE "")
if(BUILD_SHARED_LIBS)
  set(LAPIDARY_PC_LIBS_PRIVATE "${links}")
else()
  set(LAPIDARY_PC_LIBS "${links} -lstdc++")
endif()
configure_file(cmake/lapidary.pc.in lapidary.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/lapidary.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
