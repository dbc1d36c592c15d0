# `cmake --install` puts down the library, its public headers, what find_package(Lapidary CONFIG) and pkg-config need to
# find them, and the licences; the command line installs itself. Two components: `runtime` is what a program needs to
# run, the command line among it, `dev` what it takes to build one. CPack makes packages of them
# (LapidaryPackages.cmake).

include(CMakePackageConfigHelpers)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/Lapidary)

install(TARGETS lapidary EXPORT LapidaryTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT dev
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY include/lapidary ${CMAKE_CURRENT_BINARY_DIR}/include/lapidary
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT dev FILES_MATCHING PATTERN "*.h")
install(EXPORT LapidaryTargets NAMESPACE lapidary:: DESTINATION ${package_folder} COMPONENT dev)

# What the package finds for its users: a shared library has all of it inside.
set(LAPIDARY_PACKAGE_USES "")
if(NOT BUILD_SHARED_LIBS)
  list(JOIN LAPIDARY_USES " " LAPIDARY_PACKAGE_USES)
endif()
configure_file(cmake/LapidaryConfig.cmake.in LapidaryConfig.cmake @ONLY)
write_basic_package_version_file(LapidaryConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/LapidaryConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/LapidaryConfigVersion.cmake
  cmake/LapidaryDependencies.cmake
  DESTINATION ${package_folder} COMPONENT dev)

# Each component has the licences of what is compiled into it, for who takes only one.
set(licences LICENSE docs/THIRD-PARTY.md)
install(FILES ${licences} DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/lapidary COMPONENT runtime)
install(FILES ${licences} DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/liblapidary-dev COMPONENT dev)

# Where a path is relative to the prefix the pkg-config file finds it from its own place, so that the package can be
# moved.
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

# What the library links: by the names that pkg-config knows, and by -l where it knows none.
find_program(LAPIDARY_PKG_CONFIG NAMES pkg-config pkgconf)
mark_as_advanced(LAPIDARY_PKG_CONFIG)
set(modules "")
set(links "")
foreach(row IN ITEMS sentencepiece=sentencepiece=sentencepiece jpeg=libjpeg=jpeg webp=libwebp=webp
    webp=libwebpdemux=webpdemux gif=libgif=gif heif=libheif=heif tiff=libtiff-4=tiff)
  string(REGEX MATCH "^(.*)=(.*)=(.*)$" whole ${row})
  set(name ${CMAKE_MATCH_1})
  set(module ${CMAKE_MATCH_2})
  set(library ${CMAKE_MATCH_3})
  if(NOT name IN_LIST LAPIDARY_USES)
    continue()
  endif()
  set(known 1)
  if(LAPIDARY_PKG_CONFIG)
    execute_process(COMMAND ${LAPIDARY_PKG_CONFIG} --exists ${module} RESULT_VARIABLE known)
  endif()
  if(known EQUAL 0)
    string(APPEND modules " ${module}")
  else()
    string(APPEND links " -l${library}")
  endif()
endforeach()
if(LAPIDARY_OPENMP)
  string(APPEND links " ${OpenMP_CXX_FLAGS}")
endif()
if(NOT BUILD_SHARED_LIBS)
  foreach(library IN LISTS CMAKE_CXX_IMPLICIT_LINK_LIBRARIES)
    if(library MATCHES "^(stdc\\+\\+|c\\+\\+)$")
      string(APPEND links " -l${library}")
    endif()
  endforeach()
endif()
string(APPEND links " -pthread")
# Private, for users of a shared library: nothing that they link. pkg-config has no notion of "static by default", so
# what a static library needs is not private: every user gets it, with or without --static.
set(LAPIDARY_PC_CFLAGS "")
if(BUILD_SHARED_LIBS)
  set(LAPIDARY_PC_REQUIRES "Requires.private:${modules}\nLibs: -L\${libdir} -llapidary\nLibs.private:${links}")
else()
  set(LAPIDARY_PC_REQUIRES "Requires:${modules}\nLibs: -L\${libdir} -llapidary${links}")
  set(LAPIDARY_PC_CFLAGS " -DLAPIDARY_STATIC_DEFINE")
endif()
configure_file(cmake/lapidary.pc.in lapidary.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/lapidary.pc DESTINATION ${pc_folder} COMPONENT dev)

if(PROJECT_IS_TOP_LEVEL)
  include(LapidaryPackages)
endif()
