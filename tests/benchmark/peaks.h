#pragma once

#include <cstddef>
#include <span>

#include "kernels/kernels.h"

/// What one thread of the machine can do at most: what the kernels are compared with.
namespace lapidary {

/// Processor time of this thread. A neighbour that takes the processor away does not count.
double thread_seconds();

/// Multiplications and additions a second, in registers, with the instructions of one table.
struct TablePeaks {
  double int8;  // Kernels::int8_peak.
  double fp32;  // Fused multiply-add, two operations.
};
TablePeaks measure_peaks(const kernels::Kernels& table);

/// Bytes a second when all of `data` is read in order again and again.
double measure_reads(std::span<const std::byte> data);

}  // namespace lapidary
