#include "ops/bfp_matrix.h"

#include <cstring>

namespace lapidary {

using kernels::kPanelRows;

void pack_bfp_panel(const kernels::Kernels& kernels, const float* rows, std::size_t stride,
                    int count, int columns, int block, std::int16_t* values, float* scales,
                    std::int16_t* scratch) {
  constexpr int kMostBlocks = 512;
  const int blocks = (columns + block - 1) / block;
  const std::size_t pairs = static_cast<std::size_t>(columns) / 2;
  float row_scales[kMostBlocks];
  for (int r = 0; r < kPanelRows; ++r) {
    if (r < count) {
      kernels.bfp_quantize(rows + static_cast<std::size_t>(r) * stride, columns, block, scratch,
                           row_scales);
    } else {
      std::memset(scratch, 0, pairs * 4);
      std::memset(row_scales, 0, sizeof row_scales);
    }
    std::int16_t* to = values + 2 * r;
    for (std::size_t p = 0; p < pairs; ++p) std::memcpy(to + 32 * p, scratch + 2 * p, 4);
    for (int b = 0; b < blocks; ++b) scales[b * kPanelRows + r] = row_scales[b];
  }
}

void quantize_row(const kernels::Kernels& kernels, const float* x, const BfpRows& out, int token) {
  kernels.bfp_quantize(x, out.columns, out.block, out.values[token], out.scales[token]);
}

void bfp_panels(const kernels::Kernels& kernels, const BfpRows& input, int token, int tokens,
                const BfpMatrix& matrix, int begin, int end, const Rows<float>& out,
                bool accumulate) {
  kernels.bfp_matmul(
      {.panels = matrix.values + static_cast<std::size_t>(begin) * matrix.panel_values(),
       .panel_scales = matrix.scales + static_cast<std::size_t>(begin) * matrix.panel_scales(),
       .panel_count = end - begin,
       .columns = matrix.columns,
       .block = matrix.block,
       .values = input.values[token],
       .value_stride = input.values.stride,
       .scales = input.scales[token],
       .scale_stride = input.scales.stride,
       .tokens = tokens,
       .out = out.data,
       .out_stride = out.stride,
       .accumulate = accumulate});
}

}  // namespace lapidary
