#pragma once

// What the machine has and can do.

#include <cstdint>
#include <string>

#include "lapidary/export.h"

namespace lapidary {

/// Bytes that the machine has available for this process, within its control group's limit. May be
/// called from any thread.
LAPIDARY_API std::uint64_t available_memory_bytes();

/// What measure_machine() takes at most.
inline constexpr std::uint64_t kMeasureMachineBytes = std::uint64_t{512} << 20;

/// What a machine can do.
struct MachineLimits {
  double read_gigabytes_per_second = 0;  ///< Streaming reads from memory.
  double int8_gigaops_per_second = 0;    ///< Multiplications and additions of the int8 dot product.
};

/// What this machine can do with `threads` threads on `isa`; takes about a second, and up to
/// kMeasureMachineBytes of memory meanwhile. For `bench`. Throws Error(kUsage) for options out of
/// range, Error(kMemory), Error(kFailed) when the threads cannot be made.
LAPIDARY_API MachineLimits measure_machine(int threads = 0, const std::string& isa = {});

}  // namespace lapidary
