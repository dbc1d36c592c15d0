#include "model/decoder_state.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace lapidary {
namespace {

using kernels::ActivationBits;

LinearInput make_input(Layout& layout, int tokens, int columns,
                       ActivationBits bits = ActivationBits::k8) {
  LinearInput in;
  in.dense = layout.rows<float>(tokens, columns);
  in.quantized = kernels::place_input(layout, tokens, columns, bits);
  return in;
}

kernels::AttentionPart make_part(Layout& layout, int rows, int head_dim) {
  kernels::AttentionPart part{};
  part.output = layout.take<float>(rows, head_dim);
  part.maximum = layout.take<float>(static_cast<std::size_t>(rows));
  part.sum = layout.take<float>(static_cast<std::size_t>(rows));
  return part;
}

Scratch make_scratch(Layout& layout, const Config& c, int chunk) {
  const int widest = std::max({c.width, c.feed_forward, c.query_width()});
  Scratch s{};
  s.gated.matmul = layout.take<std::byte>(kernels::matmul_scratch_bytes(widest));
  s.gated.gate = layout.rows<float>(chunk, kGateRows);
  s.gated.up = layout.rows<float>(chunk, kGateRows);
  s.queries = layout.rows<float>(kAttentionRows, c.head_dim);
  s.scores = layout.take<float>(kAttentionRows, kernels::kSegment);
  s.part = make_part(layout, kAttentionRows, c.head_dim);
  s.so_far = make_part(layout, kAttentionRows, c.head_dim);
  s.row_first = layout.take<std::int64_t>(kAttentionRows);
  s.row_last = layout.take<std::int64_t>(kAttentionRows);
  return s;
}

}  // namespace

State make_state(Layout& layout, const Config& c, int context, int chunk, int threads) {
  const auto t = static_cast<std::size_t>(chunk);
  State s;
  s.ids = layout.take<std::int32_t>(t);
  s.features = layout.take<const float*>(t);
  s.table = layout.take<const PageTable*>(t);
  s.position = layout.take<std::int64_t>(t);
  s.last_key = layout.take<std::int64_t>(t);
  s.x = layout.rows<float>(chunk, c.width);
  s.normed = make_input(layout, chunk, c.width);
  s.q = layout.rows<float>(chunk, c.query_width());
  s.k = layout.rows<float>(chunk, c.kv_width());
  s.v = layout.rows<float>(chunk, c.kv_width());
  s.attended = make_input(layout, chunk, c.query_width());
  s.projected = layout.rows<float>(chunk, c.width);
  s.hidden = make_input(layout, chunk, c.feed_forward, ActivationBits::k16Sparse);
  s.final = make_input(layout, kHeadRows, c.width, ActivationBits::k16);
  for (int kind = 0; kind < 2; ++kind) {
    s.cosine[kind] = layout.rows<float>(chunk, c.head_dim / 2);
    s.sine[kind] = layout.rows<float>(chunk, c.head_dim / 2);
  }
  s.part_segments = context / kernels::kSegment + 1;
  s.parts = make_part(layout, s.part_segments * kAttentionRows, c.head_dim);
  for (int i = 0; i < threads; ++i) s.scratch.push_back(make_scratch(layout, c, chunk));
  return s;
}

std::size_t state_bytes(const Config& config, int context, int chunk, int threads) {
  Layout layout(nullptr);
  make_state(layout, config, context, chunk, threads);
  return layout.bytes();
}

void clear(const kernels::AttentionPart& part, int rows, int head_dim) {
  std::memset(part.output, 0, static_cast<std::size_t>(rows * head_dim) * sizeof(float));
  std::fill_n(part.maximum, rows, -std::numeric_limits<float>::infinity());
  std::fill_n(part.sum, rows, 0.0F);
}

kernels::AttentionPart row_of(const kernels::AttentionPart& part, std::size_t row, int head_dim) {
  return {part.output + row * static_cast<std::size_t>(head_dim), part.maximum + row,
          part.sum + row};
}

}  // namespace lapidary
