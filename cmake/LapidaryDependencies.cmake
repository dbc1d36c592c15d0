# What the library links, found the same way by this build and by the installed package (LapidaryConfig.cmake includes
# this file). After it, LAPIDARY_LINKS names the imported targets.

# Global targets: a project that adds this one as a subdirectory links the static library and so needs to see them.
set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)
set(LAPIDARY_LINKS Threads::Threads)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

if(LAPIDARY_OPENMP AND NOT LAPIDARY_KERNELS_ONLY)
  find_package(OpenMP REQUIRED COMPONENTS CXX)
  list(APPEND LAPIDARY_LINKS OpenMP::OpenMP_CXX)
endif()

# sentencepiece has no CMake package everywhere that it is packaged; its header and library are enough.
if(NOT LAPIDARY_KERNELS_ONLY AND NOT TARGET lapidary::sentencepiece)
  find_path(LAPIDARY_SENTENCEPIECE_INCLUDE sentencepiece_processor.h)
  find_library(LAPIDARY_SENTENCEPIECE_LIBRARY sentencepiece)
  mark_as_advanced(LAPIDARY_SENTENCEPIECE_INCLUDE LAPIDARY_SENTENCEPIECE_LIBRARY)
  if(NOT LAPIDARY_SENTENCEPIECE_INCLUDE OR NOT LAPIDARY_SENTENCEPIECE_LIBRARY)
    message(FATAL_ERROR "sentencepiece was not found; install libsentencepiece-dev (apt), "
      "sentencepiece-devel (dnf) or sentencepiece (brew)")
  endif()
  add_library(lapidary::sentencepiece UNKNOWN IMPORTED GLOBAL)
  set_target_properties(lapidary::sentencepiece PROPERTIES
    IMPORTED_LOCATION "${LAPIDARY_SENTENCEPIECE_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${LAPIDARY_SENTENCEPIECE_INCLUDE}")
endif()
if(TARGET lapidary::sentencepiece)
  list(APPEND LAPIDARY_LINKS lapidary::sentencepiece)
endif()

if(LAPIDARY_JPEG AND NOT LAPIDARY_KERNELS_ONLY)
  find_package(JPEG QUIET)
  if(NOT JPEG_FOUND)
    message(FATAL_ERROR "libjpeg was not found; install libjpeg62-turbo-dev (apt), libjpeg-turbo-devel (dnf) or "
      "jpeg-turbo (brew), or build Lapidary with -DLAPIDARY_JPEG=OFF")
  endif()
  list(APPEND LAPIDARY_LINKS JPEG::JPEG)
endif()

# Old versions of libwebp have no CMake package.
if(LAPIDARY_WEBP AND NOT LAPIDARY_KERNELS_ONLY AND NOT TARGET lapidary::webp)
  find_path(LAPIDARY_WEBP_INCLUDE webp/decode.h)
  find_library(LAPIDARY_WEBP_LIBRARY webp)
  mark_as_advanced(LAPIDARY_WEBP_INCLUDE LAPIDARY_WEBP_LIBRARY)
  if(NOT LAPIDARY_WEBP_INCLUDE OR NOT LAPIDARY_WEBP_LIBRARY)
    message(FATAL_ERROR "libwebp was not found; install libwebp-dev (apt), libwebp-devel (dnf) or webp (brew), or build "
      "Lapidary with -DLAPIDARY_WEBP=OFF")
  endif()
  add_library(lapidary::webp UNKNOWN IMPORTED GLOBAL)
  set_target_properties(lapidary::webp PROPERTIES
    IMPORTED_LOCATION "${LAPIDARY_WEBP_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${LAPIDARY_WEBP_INCLUDE}")
endif()
if(TARGET lapidary::webp)
  list(APPEND LAPIDARY_LINKS lapidary::webp)
endif()
# Pictures of phones and scanners: with AUTO, where the libraries are there. What was decided is kept in the variables
# without the cache, and so in the installed package.
if(LAPIDARY_HEIF AND NOT LAPIDARY_KERNELS_ONLY AND NOT TARGET lapidary::heif)
  find_path(LAPIDARY_HEIF_INCLUDE libheif/heif.h)
  find_library(LAPIDARY_HEIF_LIBRARY heif)
  mark_as_advanced(LAPIDARY_HEIF_INCLUDE LAPIDARY_HEIF_LIBRARY)
  if(LAPIDARY_HEIF_INCLUDE AND LAPIDARY_HEIF_LIBRARY)
    add_library(lapidary::heif UNKNOWN IMPORTED GLOBAL)
    set_target_properties(lapidary::heif PROPERTIES
      IMPORTED_LOCATION "${LAPIDARY_HEIF_LIBRARY}"
      INTERFACE_INCLUDE_DIRECTORIES "${LAPIDARY_HEIF_INCLUDE}")
  elseif(LAPIDARY_HEIF STREQUAL "AUTO")
    set(LAPIDARY_HEIF OFF)
  else()
    message(FATAL_ERROR "libheif was not found; install libheif-dev (apt), libheif-devel (dnf) or libheif (brew), or build "
      "Lapidary with -DLAPIDARY_HEIF=OFF")
  endif()
endif()
if(LAPIDARY_HEIF AND TARGET lapidary::heif)
  set(LAPIDARY_HEIF ON)
  list(APPEND LAPIDARY_LINKS lapidary::heif)
endif()

if(LAPIDARY_TIFF AND NOT LAPIDARY_KERNELS_ONLY)
  find_package(TIFF 4.5 QUIET)
  if(TIFF_FOUND)
    set(LAPIDARY_TIFF ON)
    list(APPEND LAPIDARY_LINKS TIFF::TIFF)
  elseif(LAPIDARY_TIFF STREQUAL "AUTO")
    set(LAPIDARY_TIFF OFF)
  else()
    message(FATAL_ERROR "libtiff 4.5 was not found; install libtiff-dev (apt), libtiff-devel (dnf) or libtiff (brew), or "
      "build Lapidary with -DLAPIDARY_TIFF=OFF")
  endif()
endif()
unset(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL)
