#pragma once

// What the machine has and can do.

#include <cstdint>
#include <string>

#include "lapidary/export.h"

namespace lapidary {

/// What the machine has available for this process, within its control group's limit.
LAPIDARY_API std::uint64_t available_memory_bytes();

/// What this machine can do with `threads` threads on `isa`; takes about a second, and up to
/// kMeasureMachineBytes of memory meanwhile. For `bench`.
inline constexpr std::uint64_t kMeasureMachineBytes = std::uint64_t{512} << 20;
struct MachineLimits {
  double read_gigabytes_per_second = 0;  ///< Streaming reads from memory.
  double int8_gigaops_per_second = 0;    ///< Multiplications and additions of the int8 dot product.
};
LAPIDARY_API MachineLimits measure_machine(int threads = 0, const std::string& isa = {});

}  // namespace lapidary
