// Keys and values by their format (kv_layout.h): how they are stored, and how attention reads them.
#pragma once

#include "kernels/float-inl.h"

// Of a format attention wants to know: how many dimensions share a scale; a panel's blocks of
// these; of sixteen keys dimensions `at` and `at + 1` of a block, and their scales; of keys `key`
// and `key + 1` sixteen columns.
struct Bf16Kv {
  static constexpr KvFormat kFormat = KvFormat::kBf16;
  static constexpr bool kScaled = false;
  static constexpr int kValueBytes = 2;

  static int block(int head_dim) { return head_dim; }
  static const std::byte* key_block(const std::byte* panel, int) { return panel; }
  static LAPIDARY_INLINE FloatPair keys(const std::byte* block, int at) {
    return load_bf16_pairs(reinterpret_cast<const std::uint16_t*>(block) + at * kKeyPanel);
  }
  static const std::byte* value_columns(const std::byte* panel, int d) {
    return panel + 2 * kValueBytes * d;
  }
  // Of columns from 16 · `column` on.
  static LAPIDARY_INLINE const std::byte* values_at(const std::byte* columns, int head_dim, int key,
                                                    int column) {
    return columns + kValueBytes * (key * head_dim + 32 * column);
  }
  static LAPIDARY_INLINE FloatPair values(const std::byte* at) {
    return load_bf16_pairs(reinterpret_cast<const std::uint16_t*>(at));
  }
};

struct Int8Kv {
  static constexpr KvFormat kFormat = KvFormat::kInt8;
  static constexpr bool kScaled = true;
  static constexpr int kValueBytes = 1;

  static int block(int) { return kKvBlock; }
  static const std::byte* key_block(const std::byte* panel, int d) {
    return panel + static_cast<std::size_t>(d / kKvBlock) * kKvBlockBytes;
  }
  static LAPIDARY_INLINE FloatPair keys(const std::byte* block, int at) {
    return two_rows(block + at * kKeyPanel, kKeyPanel);
  }
  // Of the sixteen keys, of the block that `d` lies in: of keys as of values.
  static LAPIDARY_INLINE Floats scales(const std::byte* panel, int d) {
    const std::byte* at = key_block(panel, d) + kKvBlock * kKeyPanel;
    return load_bf16(reinterpret_cast<const std::uint16_t*>(at));
  }
  static const std::byte* value_columns(const std::byte* panel, int d) {
    return key_block(panel, d) + d % kKvBlock;
  }
  static LAPIDARY_INLINE const std::byte* values_at(const std::byte* columns, int, int key,
                                                    int column) {
    return columns + static_cast<std::size_t>(column / 2) * kKvBlockBytes + column % 2 * 16 +
           key * kKvBlock;
  }
  static LAPIDARY_INLINE FloatPair values(const std::byte* at) { return two_rows(at, kKvBlock); }

 private:
  static LAPIDARY_INLINE FloatPair two_rows(const std::byte* p, int stride) {
    const auto* rows = reinterpret_cast<const std::int8_t*>(p);
    return {load_int8(rows), load_int8(rows + stride)};
  }
};

inline void store_bf16(const float* key, const float* value, int head_dim, std::byte* head,
                       int place) {
  const auto dim = static_cast<std::size_t>(head_dim);
  const auto panel = static_cast<std::size_t>(place / kKeyPanel);
  const auto lane = static_cast<std::size_t>(place % kKeyPanel);
  auto* keys = reinterpret_cast<std::uint16_t*>(head) + panel * kKeyPanel * dim + 2 * lane;
  auto* values = reinterpret_cast<std::uint16_t*>(head) + (kPagePanels + panel) * kKeyPanel * dim +
                 lane / 2 * 2 * dim + lane % 2;
  for (std::size_t d = 0; d < dim; d += 2) {
    keys[d * kKeyPanel] = float_to_bf16(key[d]);
    keys[d * kKeyPanel + 1] = float_to_bf16(key[d + 1]);
  }
  for (std::size_t d = 0; d < dim; ++d) values[2 * d] = float_to_bf16(value[d]);
}

inline void add_and_subtract(float& x, float& y) {
  const float sum = x + y;
  y = x - y;
  x = sum;
}

// Hadamard's matrix of ±1 times every rotated_together(n) of n values: √ of these times as long.
inline void rotate(float* x, int n) {
  for (int begin = 0; begin < n; begin += 16) {
    for (int stride = 1; stride < 16; stride *= 2) {
      for (int i = begin; i < begin + 16; ++i) {
        if ((i & stride) == 0) add_and_subtract(x[i], x[i + stride]);
      }
    }
  }
  for (int stride = 16; stride < rotated_together(n); stride *= 2) {
    for (int i = 0; i < n; i += 16) {
      if ((i & stride) != 0) continue;
      const Floats first = load(x + i), second = load(x + i + stride);
      store(x + i, add(first, second));
      store(x + i + stride, sub(first, second));
    }
  }
}

// The queries' share of both rotations' length, a power of two: nothing is rounded.
void rotate_query(KvFormat format, float* query, int head_dim) {
  if (format != KvFormat::kInt8) return;
  rotate(query, head_dim);
  const Floats factor = broadcast(1.0F / static_cast<float>(rotated_together(head_dim)));
  for (int d = 0; d < head_dim; d += 16) store(query + d, mul(load(query + d), factor));
}

// A block's int8 values and its scale: bf16, rounded up, so that none is above 127; 0 where all
// values are next to nothing.
inline std::uint16_t quantize_kv(const float* x, std::int8_t* values) {
  const float top = reduce_max(max(absolute(load(x)), absolute(load(x + 16))));
  std::uint16_t scale = 0;
  float inverse = 0.0F;
  if (top > 1e-30F) {
    scale = bf16_above(top / 127.0F);
    inverse = 1.0F / bf16_to_float(scale);
  }
  std::int16_t sums[kBlockSums];
  narrow_block(round_to_int(mul(load(x), broadcast(inverse))),
               round_to_int(mul(load(x + 16), broadcast(inverse))), values, sums);
  return scale;
}

inline void store_int8(const float* key, const float* value, int head_dim, std::byte* head,
                       int place) {
  const auto lane = static_cast<std::size_t>(place % kKeyPanel);
  const std::size_t panel_bytes = kv_panel_bytes(KvFormat::kInt8, head_dim);
  std::byte* keys = head + static_cast<std::size_t>(place / kKeyPanel) * panel_bytes;
  std::byte* values = keys + kPagePanels * panel_bytes;
  alignas(64) float rotated[kMostHeadDim];
  std::memcpy(rotated, key, static_cast<std::size_t>(head_dim) * sizeof(float));
  rotate(rotated, head_dim);
  constexpr std::size_t kScales = kKvBlock * kKeyPanel;
  for (int d = 0; d < head_dim; d += kKvBlock, keys += kKvBlockBytes, values += kKvBlockBytes) {
    std::int8_t block[kKvBlock];
    const std::uint16_t key_scale = quantize_kv(rotated + d, block);
    for (std::size_t i = 0; i < kKvBlock; ++i)
      keys[i * kKeyPanel + lane] = static_cast<std::byte>(block[i]);
    std::memcpy(keys + kScales + 2 * lane, &key_scale, 2);
    const std::uint16_t value_scale = quantize_kv(value + d, block);
    std::memcpy(values + lane * kKvBlock, block, kKvBlock);
    std::memcpy(values + kScales + 2 * lane, &value_scale, 2);
  }
}

void store_kv(KvFormat format, const float* key, const float* value, int head_dim, std::byte* head,
              int place) {
  const auto store = format == KvFormat::kInt8 ? store_int8 : store_bf16;
  store(key, value, head_dim, head, place);
}
