#pragma once

// Whatever the fragments use of other headers: these must come before a target region, for what is
// inline in them is shared with code for any machine.
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/features.h"
#include "kernels/half.h"
#include "kernels/kernels.h"
#include "kernels/pack.h"
#include "kernels/split.h"

/// The instruction sets that a build holds; which of them this machine can run is kernels.cpp's
/// business.
namespace lapidary::kernels {

struct InstructionSet {
  Kernels table;  // Its name is what $LAPIDARY_ISA calls it.
  const char*
      target;  // What its file is compiled for and a machine must have: names of features.h.
};

/// Whether this machine has all that `target` names.
bool has_target(const char* target);

extern const InstructionSet kScalar;
#if defined(__x86_64__)
extern const InstructionSet kSse41, kAvx2, kAvxVnni, kAvx512;
#elif defined(__aarch64__)
extern const InstructionSet kNeon;
#endif

/// Where prefetched weights go: into the second-level cache, or past all of them. Intel's
/// processors want the former: what goes past the caches holds a line buffer of the first level all
/// the way (decisions/0013).
extern const bool kPrefetchesToSecondLevel;

// Entering and leaving an ISA's target region: what lies between is compiled for it, headers
// included before are not.
#define LAPIDARY_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define LAPIDARY_ENTER_TARGET(features) \
  LAPIDARY_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define LAPIDARY_LEAVE_TARGET LAPIDARY_PRAGMA(clang attribute pop)
#else
#define LAPIDARY_ENTER_TARGET(features) \
  LAPIDARY_PRAGMA(GCC push_options) LAPIDARY_PRAGMA(GCC target(features))
#define LAPIDARY_LEAVE_TARGET LAPIDARY_PRAGMA(GCC pop_options)
#endif

// For the steps of an inner loop, whose accumulators must stay in registers.
#define LAPIDARY_INLINE inline __attribute__((always_inline))
// In front of a loop over them, for the same reason.
#if defined(__clang__)
#define LAPIDARY_UNROLL LAPIDARY_PRAGMA(clang loop unroll(full))
#else
#define LAPIDARY_UNROLL LAPIDARY_PRAGMA(GCC unroll 32)
#endif

}  // namespace lapidary::kernels
