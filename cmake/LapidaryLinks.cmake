# What this build links, by its options. Afterwards LAPIDARY_LINKS names the targets and LAPIDARY_USES the dependencies,
# as LapidaryDependencies.cmake calls them; an option that was AUTO is ON or OFF, in its variable though not in the
# cache.

set(LAPIDARY_LINKS "")
set(LAPIDARY_USES "")

# lapidary_use(NAME [OPTION]): links NAME, or if OPTION is given as it says.
function(lapidary_use name)
  set(wanted ON)
  if(ARGC GREATER 1)
    set(option ${ARGV1})
    set(wanted ${${option}})
  endif()
  if(wanted)
    # A project that adds this one as a subdirectory links the static library, and so has to see what that links.
    set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)
    lapidary_find_dependency(${name} target problem)
    if(NOT problem STREQUAL "" AND NOT wanted STREQUAL "AUTO")
      message(FATAL_ERROR "${problem}")
    elseif(NOT problem STREQUAL "")
      set(wanted OFF)
    else()
      set(wanted ON)
    endif()
  endif()
  if(ARGC GREATER 1)
    set(${option} ${wanted} PARENT_SCOPE)
  endif()
  # The tools' own are none of the library's.
  if(wanted AND NOT name STREQUAL "edit")
    set(LAPIDARY_LINKS ${LAPIDARY_LINKS} ${target} PARENT_SCOPE)
    set(LAPIDARY_USES ${LAPIDARY_USES} ${name} PARENT_SCOPE)
  endif()
endfunction()

lapidary_use(threads)
if(NOT LAPIDARY_KERNELS_ONLY)
  lapidary_use(openmp LAPIDARY_OPENMP)
  lapidary_use(sentencepiece)
  lapidary_use(jpeg LAPIDARY_JPEG)
  lapidary_use(webp LAPIDARY_WEBP)
  lapidary_use(gif LAPIDARY_GIF)
  lapidary_use(heif LAPIDARY_HEIF)
  lapidary_use(tiff LAPIDARY_TIFF)
  if(LAPIDARY_BUILD_TOOLS)
    lapidary_use(edit LAPIDARY_EDIT)
  endif()
endif()
