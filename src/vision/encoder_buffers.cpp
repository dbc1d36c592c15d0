#include "vision/encoder_buffers.h"

#include <algorithm>

namespace lapidary {
namespace {

using kernels::kBfpBlock;
using kernels::kPanelRows;

/// Hands out pieces of an arena, or only counts them.
class Taker {
 public:
  Taker(Arena* arena, std::size_t& bytes) : arena_(arena), bytes_(bytes) {}

  template <class T>
  T* take(int rows, int columns) {
    const std::size_t size =
        static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns) * sizeof(T);
    bytes_ += Arena::planned(size);
    return arena_ != nullptr ? reinterpret_cast<T*>(arena_->allocate(size)) : nullptr;
  }

  BfpRows rows(int count, int columns, int block = kBfpBlock) {
    BfpRows out{columns, block, nullptr, nullptr};
    out.values = take<std::int16_t>(count, columns);
    out.scales = take<float>(count, out.blocks());
    return out;
  }

 private:
  Arena* arena_;
  std::size_t& bytes_;
};

HeadCache make_head(Taker& taker, const VisionConfig& c) {
  HeadCache head{};
  head.keys = {c.patches(), c.head_dim, c.head_dim, nullptr, nullptr};
  head.keys.values = taker.take<std::int16_t>(head.keys.panel_count() * kPanelRows, c.head_dim);
  head.keys.scales = taker.take<float>(head.keys.panel_count(), kPanelRows);
  const int rows = dim_panels(c) * kPanelRows;
  head.values = taker.take<std::int16_t>(rows, c.patches());
  const int segments = (c.patches() + kKeySegment - 1) / kKeySegment;
  head.value_scales = taker.take<float>(rows, segments * (kKeySegment / kBfpBlock));
  return head;
}

EncoderScratch make_scratch(Taker& taker, const VisionConfig& c) {
  const int group = (heads_per_group(c) * c.head_dim + kPanelRows - 1) / kPanelRows * kPanelRows;
  EncoderScratch s{};
  // Value panels read whole panels: up to 15 floats behind a head's last column.
  s.out = taker.take<float>(kTokenBlock + 1, std::max(group, kBfpBlock));
  s.row = taker.take<float>(1, std::max(c.width, 3 * c.patch_size * c.patch_size));
  s.words = taker.take<std::int16_t>(kPanelRows, c.head_dim);
  s.scores = taker.take<float>(kQueryBlock, kKeySegment);
  s.weights = taker.rows(kQueryBlock, kKeySegment);
  s.attended = taker.take<float>(kQueryBlock, dim_panels(c) * kPanelRows);
  s.maximum = taker.take<float>(1, kQueryBlock);
  s.sum = taker.take<float>(1, kQueryBlock);
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

EncoderBuffers make_encoder_buffers(Arena* arena, const VisionConfig& c, int threads,
                                    std::size_t& bytes) {
  Taker taker(arena, bytes);
  EncoderBuffers b{};
  b.x = taker.take<float>(c.patches(), c.width);
  b.normed = taker.rows(c.patches(), c.width);
  b.queries = taker.rows(c.patches(), c.width, c.head_dim);
  b.attended = taker.rows(c.patches(), c.width, c.head_dim);
  for (int h = 0; h < c.heads; ++h) b.heads.push_back(make_head(taker, c));
  const int pixel_values = 3 * c.patch_size * c.patch_size;
  BfpRows wider = taker.rows(c.patches(), std::max(c.feed_forward, pixel_values));
  b.hidden = wider;
  b.hidden.columns = c.feed_forward;
  b.pixels = wider;
  b.pixels.columns = pixel_values;
  b.pooled = taker.rows(c.tokens(), c.width);
  for (int i = 0; i < threads; ++i) b.scratch.push_back(make_scratch(taker, c));
  return b;
}

}  // namespace lapidary
