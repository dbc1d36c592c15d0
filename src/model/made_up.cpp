#include "model/made_up.h"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace lapidary {

namespace {

// Keys and values that take turns: a number of them that no page is a multiple of.
constexpr int kVectors = 37;

std::vector<float> random_numbers(int count) {
  std::vector<float> numbers(static_cast<std::size_t>(count));
  std::uint32_t state = 1;
  for (float& number : numbers) {
    state = state * 1664525U + 1013904223U;
    number = static_cast<float>(static_cast<std::int32_t>(state)) * 0x1p-31F;
  }
  return numbers;
}

}  // namespace

void make_up(PageTable& table, const Config& config, const kernels::Kernels& kernels, int begin,
             int end, int seen) {
  table.prepare(begin, end);
  const std::vector<float> numbers = random_numbers((kVectors + 1) * config.head_dim);
  for (int layer = 0; layer < config.layers; ++layer) {
    const bool local = config.local[static_cast<std::size_t>(layer)];
    for (int position = local ? std::max(begin, seen) : begin; position < end; ++position) {
      for (int head = 0; head < config.kv_heads; ++head) {
        const int turn = (layer + position + head) % kVectors;
        const float* key = numbers.data() + turn * config.head_dim;
        kernels.store_kv(table.pool().format(), key, key + config.head_dim, config.head_dim,
                         table.head_at(layer, head, position), position % kernels::kPagePositions);
      }
    }
  }
}

}  // namespace lapidary
