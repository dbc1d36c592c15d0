#pragma once

#include <cstddef>

#include "kernels/kernels.h"
#include "kernels/split.h"
#include "ops/packed_matrix.h"

namespace lapidary {

/// A weight matrix in planes, as kernels/split.h lays them out. Points into an arena that someone
/// else owns.
struct PlanesMatrix {
  kernels::Packing packing = kernels::Packing::kQ8Split;  // Or kQ6Split.
  int rows = 0;
  int columns = 0;
  std::byte* data = nullptr;  // All top panels, then all middle ones, then all low ones.

  int panel_count() const { return (rows + kernels::kPanelRows - 1) / kernels::kPanelRows; }
  kernels::SplitLayout layout() const { return {packing, columns}; }
  std::size_t bytes() const;
  /// Of the top plane, most of what a task reads.
  std::size_t panel_bytes() const { return layout().top_bytes(); }
  kernels::SplitPanels planes(int panel) const;
};

/// Row `row` in fp32; `out` holds `columns` floats.
void copy_row(const PlanesMatrix& matrix, int row, float* out);

/// As linear_panels, of an input in 16 bits and those planes that `part` names: the matrix's own
/// packing for all of it, the layout's top_packing() or kQ8Top5.
void planes_panels(const kernels::Kernels& kernels, const LinearInput& input, int token_begin,
                   int tokens, const PlanesMatrix& matrix, kernels::Packing part, int begin,
                   int end, const Rows<float>& out, std::byte* scratch);

}  // namespace lapidary
