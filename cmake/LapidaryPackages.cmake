# `cpack -G DEB` makes the packages lapidary (the command line, and the shared library where it is one) and
# liblapidary-dev; `cpack -G TGZ` one archive of everything. Both need the system's shared libraries: the .deb names
# them, as dpkg-shlibdeps finds them.

set(CPACK_PACKAGE_NAME lapidary)
set(CPACK_PACKAGE_VENDOR "The Lapidary authors")
set(CPACK_PACKAGE_CONTACT "The Lapidary authors <lapidary@example.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "CPU inference engine for Gemma 3")
set(CPACK_PACKAGE_DIRECTORY ${PROJECT_BINARY_DIR}/packages)
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_STRIP_FILES ON)
set(CPACK_GENERATOR "TGZ")
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  list(APPEND CPACK_GENERATOR "DEB")
endif()

set(CPACK_COMPONENTS_ALL runtime dev)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_ARCHIVE_COMPONENT_INSTALL OFF)
set(CPACK_DEB_COMPONENT_INSTALL ON)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
if(BUILD_SHARED_LIBS)
  set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
endif()

set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME lapidary)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION science)
set(CPACK_COMPONENT_RUNTIME_DESCRIPTION "Runs Google's Gemma 3 models on the CPU: the command line lapidary.")

# What a program that links the library has to find. pkg-config asks for it where the library is shared, too.
set(dev_depends "")
foreach(pair IN ITEMS sentencepiece=libsentencepiece-dev jpeg=libjpeg-dev webp=libwebp-dev gif=libgif-dev heif=libheif-dev
    tiff=libtiff-dev openmp=libgomp1)
  string(REGEX MATCH "^(.*)=(.*)$" whole ${pair})
  if(CMAKE_MATCH_1 IN_LIST LAPIDARY_USES)
    list(APPEND dev_depends ${CMAKE_MATCH_2})
  endif()
endforeach()
if(BUILD_SHARED_LIBS)
  list(APPEND dev_depends "lapidary (= ${PROJECT_VERSION})")
endif()
list(JOIN dev_depends ", " CPACK_DEBIAN_DEV_PACKAGE_DEPENDS)
set(CPACK_DEBIAN_DEV_PACKAGE_NAME liblapidary-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_COMPONENT_DEV_DESCRIPTION "Runs Google's Gemma 3 models on the CPU: the C++ library to build programs with.")

include(CPack)
