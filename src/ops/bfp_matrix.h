#pragma once

#include <cstddef>
#include <cstdint>

#include "base/rows.h"
#include "kernels/kernels.h"

namespace lapidary {

/// A weight matrix in block floating point (kernels.h), in panels of kPanelRows rows. Points into
/// an arena that someone else owns. Rows behind the last are zero.
struct BfpMatrix {
  int rows = 0;
  int columns = 0;  // Even.
  int block = kernels::kBfpBlock;
  std::int16_t* values = nullptr;  // [panels][columns / 2][16][2]
  float* scales = nullptr;         // [panels][blocks][16]

  int panel_count() const { return (rows + kernels::kPanelRows - 1) / kernels::kPanelRows; }
  int blocks() const { return (columns + block - 1) / block; }
  std::size_t panel_values() const {
    return static_cast<std::size_t>(columns) * kernels::kPanelRows;
  }
  std::size_t panel_scales() const {
    return static_cast<std::size_t>(blocks()) * kernels::kPanelRows;
  }
  std::size_t value_count() const {
    return static_cast<std::size_t>(panel_count()) * panel_values();
  }
  std::size_t scale_count() const {
    return static_cast<std::size_t>(panel_count()) * panel_scales();
  }
};

/// Activations of some tokens in block floating point.
struct BfpRows {
  int columns = 0;
  int block = kernels::kBfpBlock;
  Rows<std::int16_t> values;  // [tokens][columns]
  Rows<float> scales;         // [tokens][blocks]

  int blocks() const { return (columns + block - 1) / block; }
};

/// Rounds `count` ≤ 16 rows, `stride` floats apart, into one panel: `values` and `scales` of it.
/// `scratch` holds `columns` values.
void pack_bfp_panel(const kernels::Kernels& kernels, const float* rows, std::size_t stride,
                    int count, int columns, int block, std::int16_t* values, float* scales,
                    std::int16_t* scratch);

/// Rounds row `token`, all of it.
void quantize_row(const kernels::Kernels& kernels, const float* x, const BfpRows& out, int token);

/// Panels [begin, end) of `matrix` against tokens [token, token + tokens) of `input`, into `out`
/// ([tokens], column 0 the first panel's first row), or added to it, on this thread.
void bfp_panels(const kernels::Kernels& kernels, const BfpRows& input, int token, int tokens,
                const BfpMatrix& matrix, int begin, int end, const Rows<float>& out,
                bool accumulate = false);

}  // namespace lapidary
