#include "vision/encoder_buffers.h"

#include <algorithm>

namespace lapidary {
namespace {

using kernels::kBfpBlock;
using kernels::kPanelRows;

template <class T>
T* take(Layout& layout, int rows, int columns) {
  return layout.take<T>(static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns));
}

BfpRows take_rows(Layout& layout, int count, int columns, int block = kBfpBlock) {
  BfpRows out{columns, block, nullptr, nullptr};
  out.values = take<std::int16_t>(layout, count, columns);
  out.scales = take<float>(layout, count, out.blocks());
  return out;
}

HeadCache make_head(Layout& layout, const VisionConfig& c) {
  HeadCache head{};
  head.keys = {c.patches(), c.head_dim, c.head_dim, nullptr, nullptr};
  head.keys.values = take<std::int16_t>(layout, head.keys.panel_count() * kPanelRows, c.head_dim);
  head.keys.scales = take<float>(layout, head.keys.panel_count(), kPanelRows);
  const int rows = dim_panels(c) * kPanelRows;
  head.values = take<std::int16_t>(layout, rows, c.patches());
  const int segments = (c.patches() + kKeySegment - 1) / kKeySegment;
  head.value_scales = take<float>(layout, rows, segments * (kKeySegment / kBfpBlock));
  return head;
}

EncoderScratch make_scratch(Layout& layout, const VisionConfig& c) {
  const int group = (heads_per_group(c) * c.head_dim + kPanelRows - 1) / kPanelRows * kPanelRows;
  EncoderScratch s{};
  // Value panels read whole panels: up to 15 floats behind a head's last column.
  s.out = take<float>(layout, kTokenBlock + 1, std::max(group, kBfpBlock));
  s.row = take<float>(layout, 1, std::max(c.width, 3 * c.patch_size * c.patch_size));
  s.words = take<std::int16_t>(layout, kPanelRows, c.head_dim);
  s.scores = take<float>(layout, kQueryBlock, kKeySegment);
  s.weights = take_rows(layout, kQueryBlock, kKeySegment);
  s.attended = take<float>(layout, kQueryBlock, dim_panels(c) * kPanelRows);
  s.maximum = take<float>(layout, 1, kQueryBlock);
  s.sum = take<float>(layout, 1, kQueryBlock);
  return s;
}

}  // namespace

int heads_per_group(const VisionConfig& c) {
  int heads = 1;
  while (heads < c.heads && (heads * c.head_dim % kPanelRows != 0 || c.heads % heads != 0)) ++heads;
  while (heads * 2 <= c.heads && c.heads % (heads * 2) == 0 &&
         heads * 2 * c.head_dim <= 2 * kBfpBlock)
    heads *= 2;
  return heads;
}

EncoderBuffers make_encoder_buffers(Layout& layout, const VisionConfig& c, int threads) {
  EncoderBuffers b{};
  b.x = take<float>(layout, c.patches(), c.width);
  b.normed = take_rows(layout, c.patches(), c.width);
  b.queries = take_rows(layout, c.patches(), c.width, c.head_dim);
  b.attended = take_rows(layout, c.patches(), c.width, c.head_dim);
  for (int h = 0; h < c.heads; ++h) b.heads.push_back(make_head(layout, c));
  const int pixel_values = 3 * c.patch_size * c.patch_size;
  BfpRows wider = take_rows(layout, c.patches(), std::max(c.feed_forward, pixel_values));
  b.hidden = wider;
  b.hidden.columns = c.feed_forward;
  b.pixels = wider;
  b.pixels.columns = pixel_values;
  b.pooled = take_rows(layout, c.tokens(), c.width);
  for (int i = 0; i < threads; ++i) b.scratch.push_back(make_scratch(layout, c));
  return b;
}

}  // namespace lapidary
