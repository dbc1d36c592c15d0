#include "ops/planes_matrix.h"

namespace lapidary {

using kernels::kPanelRows;
using kernels::Packing;

std::size_t PlanesMatrix::bytes() const {
  const kernels::SplitLayout of = layout();
  return static_cast<std::size_t>(panel_count()) *
         (of.top_bytes() + of.middle_bytes() + of.low_bytes());
}

kernels::SplitPanels PlanesMatrix::planes(int panel) const {
  const kernels::SplitLayout of = layout();
  const auto p = static_cast<std::size_t>(panel), count = static_cast<std::size_t>(panel_count());
  std::byte* middle = data + count * of.top_bytes();
  std::byte* low = middle + count * of.middle_bytes();
  return {data + p * of.top_bytes(), middle + p * of.middle_bytes(), low + p * of.low_bytes()};
}

void copy_row(const PlanesMatrix& matrix, int row, float* out) {
  const kernels::SplitPanels planes = matrix.planes(row / kPanelRows);
  kernels::unpack_split_row(matrix.layout(), planes.top, planes.low, row % kPanelRows, out);
}

void planes_panels(const kernels::Kernels& kernels, const LinearInput& input, int token_begin,
                   int tokens, const PlanesMatrix& matrix, Packing part, int begin, int end,
                   const Rows<float>& out, std::byte* scratch) {
  const kernels::SplitPanels first = matrix.planes(0);
  const kernels::PlanesMatmulArgs args{
      .top = {.panels = first.top,
              .panel_bytes = matrix.panel_bytes(),
              .columns = matrix.columns,
              .panel_begin = begin,
              .panel_end = end,
              .input = &input.quantized,
              .dense_input = nullptr,
              .token_begin = token_begin,
              .tokens = tokens,
              .out = out.data,
              .out_stride = out.stride,
              .scratch = scratch},
      .second = part == Packing::kQ8Top5 ? first.middle : first.low};
  kernels.matmul_planes[static_cast<int>(part) - kernels::kPanelPackings](args);
}

}  // namespace lapidary
