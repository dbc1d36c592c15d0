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
# Where a path is relative to the prefix the file finds it from its own place, so that the package can be moved.
set(LAPIDARY_PC_PREFIX ${CMAKE_INSTALL_PREFIX})
set(pc_folder ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
if(NOT IS_ABSOLUTE ${pc_folder})
  file(RELATIVE_PATH up /prefix/${pc_folder} /prefix)
  string(REGEX REPLACE "/$" "" up ${up})
  set(LAPIDARY_PC_PREFIX "\${pcfiledir}/${up}")
endif()
foreach(kind IN ITEMS LIB INCLUDE)
  set(LAPIDARY_PC_${kind}DIR ${CMAKE_INSTALL_${kind}DIR})
  if(NOT IS_ABSOLUTE ${CMAKE_INSTALL_${kind}DIR})
    set(LAPIDARY_PC_${kind}DIR "\${prefix}/${CMAKE_INSTALL_${kind}DIR}")
  endif()
endforeach()
set(links " -lsentencepiece -lcrypto -pthread")
if(LAPIDARY_JPEG)
  string(APPEND links " -ljpeg")
endif()
if(LAPIDARY_WEBP)
  string(APPEND links " -lwebp")
endif()
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
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/lapidary.pc DESTINATION ${pc_folder})
