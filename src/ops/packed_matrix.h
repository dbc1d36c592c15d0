#pragma once

#include <cstddef>
#include <span>

#include "base/rows.h"
#include "base/team.h"
#include "kernels/kernels.h"

namespace lapidary {

/// A weight matrix in panels of kPanelRows rows, as kernels/pack.h lays them out. Points into an
/// arena that someone else owns.
struct PackedMatrix {
  kernels::Packing packing = kernels::Packing::kBF16;
  int rows = 0;
  int columns = 0;
  std::byte* panels = nullptr;

  bool quantized() const { return kernels::is_quantized(packing); }
  int panel_count() const { return (rows + kernels::kPanelRows - 1) / kernels::kPanelRows; }
  std::size_t panel_bytes() const { return kernels::panel_bytes(packing, columns); }
  std::size_t bytes() const { return static_cast<std::size_t>(panel_count()) * panel_bytes(); }
};

/// Row `row` in fp32; `out` holds `columns` floats.
void copy_row(const PackedMatrix& matrix, int row, float* out);

/// What a matrix product reads: [tokens][columns] in fp32, and rounded to int8 where a matrix is
/// quantised.
struct LinearInput {
  Rows<float> dense;
  kernels::QuantizedInput quantized{};
};

/// One product of a phase.
struct LinearJob {
  const PackedMatrix* matrix;
  Rows<float> out;  // [tokens][rows of the matrix]
};

/// Splits several products over tokens [0, tokens) of one input among the workers, in pieces of
/// about 64 KiB of weights (of two panels when there are many tokens, which is then work enough),
/// and does `each` for every token behind them. For every worker of a team; ends with a barrier.
/// `scratch` is this worker's own.
void linear(Worker& worker, const kernels::Kernels& kernels, const LinearInput& input, int tokens,
            std::span<const LinearJob> jobs, std::byte* scratch, FunctionRef<void(int)> each);

/// Panels [begin, end) of one product, on this thread; column 0 of `out` is the first of them's
/// first row.
void linear_panels(const kernels::Kernels& kernels, const LinearInput& input, int token_begin,
                   int tokens, const PackedMatrix& matrix, int begin, int end,
                   const Rows<float>& out, std::byte* scratch);

/// Panels of so many bytes that one task takes, by the rule above.
int panels_per_task(std::size_t panel_bytes, int tokens);

}  // namespace lapidary
