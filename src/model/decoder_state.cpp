#include "model/decoder_state.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace lapidary {
namespace {

LinearInput make_input(Layout& layout, int tokens, int columns, bool wide = false) {
  const auto t = static_cast<std::size_t>(tokens);
  const auto n = static_cast<std::size_t>(columns);
  const std::size_t blocks = t * n / kernels::kBlock;
  LinearInput in;
  in.dense = layout.take<float>(t * n);
  in.quantized.values = layout.take<std::int8_t>(t * n);
  in.quantized.low = wide ? layout.take<std::int8_t>(t * n) : nullptr;
  in.quantized.scales = layout.take<float>(blocks);
  in.quantized.sums = layout.take<std::int16_t>(kernels::kBlockSums * blocks);
  in.quantized.low_sums = wide ? layout.take<std::int16_t>(kernels::kBlockSums * blocks) : nullptr;
  in.quantized.low_used = nullptr;
  in.quantized.scaled_sums = layout.take<float>(blocks);
  in.quantized.low_scaled_sums = wide ? layout.take<float>(blocks) : nullptr;
  in.quantized.columns = columns;
  return in;
}

/// What it takes to leave low parts to few blocks, and to multiply those of many tokens.
void add_gathered(Layout& layout, int tokens, kernels::QuantizedInput& in) {
  const int groups = (tokens + kernels::kLowGroup - 1) / kernels::kLowGroup;
  const auto blocks = static_cast<std::size_t>(in.columns / kernels::kBlock);
  const std::size_t buckets = static_cast<std::size_t>(groups) * blocks;
  in.squares = layout.take<float>(static_cast<std::size_t>(tokens) * blocks);
  in.low_used = layout.take<std::uint8_t>(static_cast<std::size_t>(tokens) * blocks);
  in.low_blocks = layout.take<kernels::LowBlock>(buckets * kernels::kLowGroup);
  in.low_counts = layout.take<std::uint8_t>(buckets);
}

kernels::AttentionPart make_part(Layout& layout, std::size_t rows, std::size_t head_dim) {
  kernels::AttentionPart part{};
  part.output = layout.take<float>(rows * head_dim);
  part.maximum = layout.take<float>(rows);
  part.sum = layout.take<float>(rows);
  return part;
}

}  // namespace

State make_state(Layout& layout, const Config& c, int context, int chunk, int threads) {
  const auto t = static_cast<std::size_t>(chunk);
  const auto width = static_cast<std::size_t>(c.width);
  const auto dim = static_cast<std::size_t>(c.head_dim);
  State s;
  s.features = layout.take<const float*>(t);
  s.cache = layout.take<KvCache*>(t);
  s.position = layout.take<std::int64_t>(t);
  s.last_key = layout.take<std::int64_t>(t);
  s.x = layout.take<float>(t * width);
  s.normed = make_input(layout, chunk, c.width);
  s.q = layout.take<float>(t * static_cast<std::size_t>(c.query_width()));
  s.k = layout.take<float>(t * static_cast<std::size_t>(c.kv_width()));
  s.v = layout.take<float>(t * static_cast<std::size_t>(c.kv_width()));
  s.attended = make_input(layout, chunk, c.query_width());
  s.projected = layout.take<float>(t * width);
  s.hidden = make_input(layout, chunk, c.feed_forward, true);
  add_gathered(layout, chunk, s.hidden.quantized);
  s.final = make_input(layout, chunk, c.width, true);
  for (int kind = 0; kind < 2; ++kind) {
    s.cosine[kind] = layout.take<float>(t * dim / 2);
    s.sine[kind] = layout.take<float>(t * dim / 2);
  }
  s.part_segments = context / kernels::kSegment + 1;
  s.parts = make_part(layout, static_cast<std::size_t>(s.part_segments) * kAttentionRows, dim);
  const int widest = std::max({c.width, c.feed_forward, c.query_width()});
  for (int i = 0; i < threads; ++i) {
    Scratch scratch{};
    scratch.matmul = layout.take<std::byte>(kernels::matmul_scratch_bytes(widest));
    scratch.gate = layout.take<float>(t * kPairRows);
    scratch.up = layout.take<float>(t * kPairRows);
    scratch.queries = layout.take<float>(kAttentionRows * dim);
    scratch.scores = layout.take<float>(std::size_t{kAttentionRows} * kernels::kSegment);
    scratch.part = make_part(layout, kAttentionRows, dim);
    scratch.so_far = make_part(layout, kAttentionRows, dim);
    scratch.row_first = layout.take<std::int64_t>(kAttentionRows);
    scratch.row_last = layout.take<std::int64_t>(kAttentionRows);
    s.scratch.push_back(scratch);
  }
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
