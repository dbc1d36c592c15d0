# Settings that every target of the project shares.

add_library(lapidary_settings INTERFACE)
target_compile_features(lapidary_settings INTERFACE cxx_std_20)
# No contraction: a * b + c is two roundings unless the code asks for an fma, so every ISA computes the same bits.
target_compile_options(lapidary_settings INTERFACE
  -Wall -Wextra -Wconversion -Wshadow -ffp-contract=off -fvisibility=hidden -fvisibility-inlines-hidden)
# GCC 12 sees overlapping copies in std::string's operator+ that are not there (GCC bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(lapidary_settings INTERFACE -Wno-restrict)
endif()
if(LAPIDARY_WERROR)
  target_compile_options(lapidary_settings INTERFACE -Werror)
endif()
if(LAPIDARY_SANITIZE)
  target_compile_options(lapidary_settings INTERFACE
    -fsanitize=${LAPIDARY_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  target_link_options(lapidary_settings INTERFACE -fsanitize=${LAPIDARY_SANITIZE})
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

# lapidary_part(NAME SOURCES … [USES parts or libraries …]): one folder of src/ as an object library that sees nothing
# but what it may use. `USES` propagates, as the arrows in docs/HACKING.md do.
function(lapidary_part name)
  cmake_parse_arguments(PART "" "" "SOURCES;USES" ${ARGN})
  add_library(lapidary_${name} OBJECT ${PART_SOURCES})
  target_include_directories(lapidary_${name} PUBLIC
    ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include ${PROJECT_BINARY_DIR}/include)
  target_link_libraries(lapidary_${name} PRIVATE lapidary_settings PUBLIC ${PART_USES})
  # What lapidary/export.h asks for. In a static library nothing is exported: what links it decides what it shows.
  if(BUILD_SHARED_LIBS)
    target_compile_definitions(lapidary_${name} PUBLIC lapidary_EXPORTS)
  else()
    target_compile_definitions(lapidary_${name} PUBLIC LAPIDARY_STATIC_DEFINE)
  endif()
  # What fuzzers try tells them which way it went.
  if(LAPIDARY_FUZZ AND name MATCHES "^(formats|text|vision|runtime)$")
    target_compile_options(lapidary_${name} PRIVATE -fsanitize=fuzzer-no-link)
    target_link_options(lapidary_${name} PUBLIC -fsanitize=fuzzer-no-link)
  endif()
  set_property(GLOBAL APPEND PROPERTY LAPIDARY_PARTS lapidary_${name})
endfunction()
