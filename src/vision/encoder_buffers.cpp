#include "vision/encoder_buffers.h"

#include <algorithm>

namespace lapidary {
namespace {

using kernels::kBfpBlock;
using kernels::kPanelRows;

BfpRows make_rows(Layout& layout, int count, int columns, int block = kBfpBlock) {
  BfpRows out{columns, block, {}, {}};
  out.values = layout.rows<std::int16_t>(count, columns);
  out.scales = layout.rows<float>(count, out.blocks());
  return out;
}

HeadCache make_head(Layout& layout, const VisionConfig& c) {
  HeadCache head{};
  head.keys = {c.patches(), c.head_dim, c.head_dim, nullptr, nullptr};
  head.keys.values = layout.take<std::int16_t>(head.keys.panel_count() * kPanelRows, c.head_dim);
  head.keys.scales = layout.take<float>(head.keys.panel_count(), kPanelRows);
  const int rows = dim_panels(c) * kPanelRows;
  head.values = layout.take<std::int16_t>(rows, c.patches());
  const int segments = (c.patches() + kKeySegment - 1) / kKeySegment;
  head.value_scales = layout.take<float>(rows, segments * (kKeySegment / kBfpBlock));
  return head;
}

EncoderScratch make_scratch(Layout& layout, const VisionConfig& c) {
  const int group = (heads_per_task(c) * c.head_dim + kPanelRows - 1) / kPanelRows * kPanelRows;
  EncoderScratch s{};
  // Value panels read whole panels: up to 15 floats behind a head's last column.
  s.out = layout.take<float>(kTokenBlock + 1, std::max(group, kBfpBlock));
  s.row = layout.take<float>(1, std::max(c.width, 3 * c.patch_size * c.patch_size));
  s.words = layout.take<std::int16_t>(kPanelRows, c.head_dim);
  s.scores = layout.rows<float>(kQueryBlock, kKeySegment);
  s.weights = make_rows(layout, kQueryBlock, kKeySegment);
  s.attended = layout.rows<float>(kQueryBlock, dim_panels(c) * kPanelRows);
  s.maximum = layout.take<float>(1, kQueryBlock);
  s.sum = layout.take<float>(1, kQueryBlock);
  return s;
}

}  // namespace

int heads_per_task(const VisionConfig& c) {
  int heads = 1;
  while (heads < c.heads && (heads * c.head_dim % kPanelRows != 0 || c.heads % heads != 0)) ++heads;
  while (heads * 2 <= c.heads && c.heads % (heads * 2) == 0 &&
         heads * 2 * c.head_dim <= 2 * kBfpBlock)
    heads *= 2;
  return heads;
}

EncoderBuffers make_encoder_buffers(Layout& layout, const VisionConfig& c, int threads) {
  EncoderBuffers b{};
  b.x = layout.rows<float>(c.patches(), c.width);
  b.normed = make_rows(layout, c.patches(), c.width);
  b.queries = make_rows(layout, c.patches(), c.width, c.head_dim);
  b.attended = make_rows(layout, c.patches(), c.width, c.head_dim);
  for (int h = 0; h < c.heads; ++h) b.heads.push_back(make_head(layout, c));
  const int pixel_values = 3 * c.patch_size * c.patch_size;
  BfpRows wider = make_rows(layout, c.patches(), std::max(c.feed_forward, pixel_values));
  b.hidden = wider;
  b.hidden.columns = c.feed_forward;
  b.pixels = wider;
  b.pixels.columns = pixel_values;
  b.pooled = make_rows(layout, c.tokens(), c.width);
  for (int i = 0; i < threads; ++i) b.scratch.push_back(make_scratch(layout, c));
  return b;
}

std::size_t encoder_buffer_bytes(const VisionConfig& c, int threads) {
  Layout layout(nullptr);
  make_encoder_buffers(layout, c, threads);
  return layout.bytes();
}

}  // namespace lapidary
