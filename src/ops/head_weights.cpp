#include "ops/head_weights.h"

namespace lapidary {

using kernels::Packing;

void shape_head(HeadWeights& weights, BlockType type, int rows, int columns, bool searchable) {
  const PackedMatrix panels{kernels::packing_for(type, true), rows, columns, nullptr};
  const bool six_bits = panels.packing == Packing::kQ6_K;
  const bool exact = six_bits || panels.packing == Packing::kQ8_0;
  if (searchable && (exact || !panels.quantized()))
    weights.planes = {six_bits ? Packing::kQ6Split : Packing::kQ8Split, rows, columns, nullptr};
  if (!searchable || !exact) weights.panels = panels;
}

void copy_row(const HeadWeights& weights, int row, float* out) {
  if (weights.embedding.rows > 0) {
    copy_row(weights.embedding, row, out);
  } else if (weights.in_planes()) {
    copy_row(weights.planes, row, out);
  } else {
    copy_row(weights.panels, row, out);
  }
}

void head_panels(const kernels::Kernels& kernels, const LinearInput& input, int token_begin,
                 int tokens, const HeadWeights& weights, int begin, int end, const Rows<float>& out,
                 std::byte* scratch) {
  if (weights.in_planes()) {
    planes_panels(kernels, input, token_begin, tokens, weights.planes, weights.planes.packing,
                  begin, end, out, scratch);
  } else {
    linear_panels(kernels, input, token_begin, tokens, weights.panels, begin, end, out, scratch);
  }
}

}  // namespace lapidary
