#include "model/kv_cache.h"

#include <algorithm>

#include "kernels/half.h"
#include "kernels/kernels.h"

namespace lapidary {
namespace {

std::size_t head_values(int head_dim, int panels) {
  return static_cast<std::size_t>(panels) * kernels::kKeyPanel * static_cast<std::size_t>(head_dim);
}

}  // namespace

int kv_panels(const Config& config, bool local, int tokens, int chunk) {
  // A chunk may begin in the middle of a panel, so a ring has one panel to spare.
  const std::int64_t ring = (std::int64_t{config.sliding_window} + chunk) / kernels::kKeyPanel + 2;
  const std::int64_t all = (std::int64_t{tokens} + kernels::kKeyPanel - 1) / kernels::kKeyPanel;
  return static_cast<int>(local ? std::min(ring, all) : all);
}

std::uint64_t kv_cache_bytes(const Config& config, int tokens, int chunk, bool global_only) {
  std::uint64_t values = 0;
  for (bool local : config.local) {
    values +=
        head_values(config.head_dim, kv_panels(config, local && !global_only, tokens, chunk)) *
        static_cast<std::uint64_t>(config.kv_heads) * 2;
  }
  return values * sizeof(std::uint16_t);
}

KvCache::KvCache(const Config& config, int context, int chunk)
    : head_dim_(config.head_dim), buffer_(kv_cache_bytes(config, context, chunk)) {
  auto* data = reinterpret_cast<std::uint16_t*>(buffer_.data());
  for (bool local : config.local) {
    const int panels = kv_panels(config, local, context, chunk);
    layers_.push_back({data, panels});
    data += head_values(head_dim_, panels) * static_cast<std::size_t>(config.kv_heads) * 2;
  }
}

KvCache::Head KvCache::head(int layer, int kv_head) const {
  const Layer& l = layers_[static_cast<std::size_t>(layer)];
  const std::size_t values = head_values(head_dim_, l.panels);
  std::uint16_t* keys = l.data + static_cast<std::size_t>(kv_head) * 2 * values;
  return {keys, keys + values, l.panels};
}

void KvCache::write(int layer, int kv_head, std::int64_t position, const float* key,
                    const float* value) {
  const Head h = head(layer, kv_head);
  const auto dim = static_cast<std::size_t>(head_dim_);
  const auto slot = static_cast<std::size_t>(position / kernels::kKeyPanel % h.panels);
  const auto lane = static_cast<std::size_t>(position % kernels::kKeyPanel);
  std::uint16_t* keys = h.keys + slot * kernels::kKeyPanel * dim + 2 * lane;
  std::uint16_t* values =
      h.values + slot * kernels::kKeyPanel * dim + lane / 2 * 2 * dim + lane % 2;
  for (std::size_t d = 0; d < dim; d += 2) {
    keys[d * kernels::kKeyPanel] = kernels::float_to_bf16(key[d]);
    keys[d * kernels::kKeyPanel + 1] = kernels::float_to_bf16(key[d + 1]);
  }
  for (std::size_t d = 0; d < dim; ++d) values[2 * d] = kernels::float_to_bf16(value[d]);
}

}  // namespace lapidary
