// Keys and values by their format (kv_layout.h): how they are stored, and how attention reads them.
#pragma once

#include "kernels/float-inl.h"

// Of a format attention wants to know: how many dimensions of a key share a scale; where those from
// `d` on begin in a panel of keys or of values, and the scales there; of sixteen keys dimensions
// `at` and `at + 1` from there; of keys `key` and `key + 1` sixteen columns.
struct Bf16Kv {
  static constexpr KvFormat kFormat = KvFormat::kBf16;
  static constexpr bool kScaled = false;

  static int key_block(int head_dim) { return head_dim; }
  static const std::byte* keys_from(const std::byte* panel, int) { return panel; }
  static LAPIDARY_INLINE FloatPair keys(const std::byte* from, int at) {
    return load_bf16_pairs(reinterpret_cast<const std::uint16_t*>(from) + at * kKeyPanel);
  }
  static const std::byte* values_from(const std::byte* panel, int d) { return panel + 4 * d; }
  static LAPIDARY_INLINE const std::byte* values_at(const std::byte* from, int head_dim, int key,
                                                    int column) {
    return from + 2 * key * head_dim + 4 * column;
  }
  static LAPIDARY_INLINE FloatPair values(const std::byte* at) {
    return load_bf16_pairs(reinterpret_cast<const std::uint16_t*>(at));
  }
};

struct Int8Kv {
  static constexpr KvFormat kFormat = KvFormat::kInt8;
  static constexpr bool kScaled = true;

  static int key_block(int) { return kKeyBlock; }
  static const std::byte* keys_from(const std::byte* panel, int d) {
    return panel + static_cast<std::size_t>(d / kKeyBlock) * kKeyBlockBytes;
  }
  static LAPIDARY_INLINE FloatPair keys(const std::byte* from, int at) {
    return two_rows(from + at * kKeyPanel, kKeyPanel);
  }
  static LAPIDARY_INLINE Floats key_scales(const std::byte* from) {
    return scales(from + kKeyBlock * kKeyPanel);
  }
  static const std::byte* values_from(const std::byte* panel, int d) {
    return panel + static_cast<std::size_t>(d / kValueBlock) * kValueBlockBytes + d % kValueBlock;
  }
  static LAPIDARY_INLINE const std::byte* values_at(const std::byte* from, int, int key,
                                                    int column) {
    return from + static_cast<std::size_t>(column / kValueBlock) * kValueBlockBytes +
           key * kValueBlock + column % kValueBlock;
  }
  static LAPIDARY_INLINE FloatPair values(const std::byte* at) { return two_rows(at, kValueBlock); }
  static LAPIDARY_INLINE Floats value_scales(const std::byte* panel, int d) {
    return scales(values_from(panel, d / kValueBlock * kValueBlock) + kValueBlock * kKeyPanel);
  }

 private:
  static LAPIDARY_INLINE Floats scales(const std::byte* p) {
    return load_bf16(reinterpret_cast<const std::uint16_t*>(p));
  }
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

// Hadamard's matrix of sixteen rows and columns: ±1.
struct Signs {
  alignas(64) float rows[16][16];
};
constexpr Signs hadamard_signs() {
  Signs signs{};
  for (unsigned row = 0; row < 16; ++row) {
    for (unsigned column = 0; column < 16; ++column) {
      bool odd = false;
      for (unsigned both = row & column; both != 0; both &= both - 1) odd = !odd;
      signs.rows[row][column] = odd ? -1.0F : 1.0F;
    }
  }
  return signs;
}
inline constexpr Signs kSigns = hadamard_signs();

// Hadamard's matrix times every rotated_together(n) of n values: √ of these times as long.
inline void rotate(float* x, int n) {
  for (int i = 0; i < n; i += 16) {
    Floats sum = broadcast(x[i]);
    for (int k = 1; k < 16; ++k) sum = add(sum, mul(broadcast(x[i + k]), load(kSigns.rows[k])));
    store(x + i, sum);
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

// The scale of a block, in bf16, and its inverse.
struct KvScale {
  std::uint16_t scale;
  float inverse;
};

// The scale is rounded up: the largest value becomes 127 and a bit less than a half at most. It is
// 0 where all values are next to nothing.
inline KvScale kv_scale(Floats magnitudes) {
  const float top = reduce_max(magnitudes);
  if (!(top > 1e-30F)) return {0, 0.0F};
  const std::uint16_t scale = bf16_above(top / 127.49F);
  return {scale, 1.0F / bf16_to_float(scale)};
}

// 32 values as int8, sixteen with each scale.
inline void narrow_kv(const float* x, const KvScale& first, const KvScale& second,
                      std::int8_t* values) {
  std::int16_t sums[kBlockSums];
  narrow_block(round_to_int(mul(load(x), broadcast(first.inverse))),
               round_to_int(mul(load(x + 16), broadcast(second.inverse))), values, sums);
}

inline void store_key_int8(const float* key, int head_dim, std::byte* panel, std::size_t lane) {
  alignas(64) float x[kMostHeadDim];
  std::memcpy(x, key, static_cast<std::size_t>(head_dim) * sizeof(float));
  rotate(x, head_dim);
  for (int d = 0; d < head_dim; d += 2 * kKeyBlock) {
    const KvScale scales[2] = {kv_scale(absolute(load(x + d))),
                               kv_scale(absolute(load(x + d + kKeyBlock)))};
    std::int8_t values[2 * kKeyBlock];
    narrow_kv(x + d, scales[0], scales[1], values);
    for (std::size_t half = 0; half < 2; ++half, panel += kKeyBlockBytes) {
      for (std::size_t i = 0; i < kKeyBlock; ++i)
        panel[i * kKeyPanel + lane] = static_cast<std::byte>(values[half * kKeyBlock + i]);
      std::memcpy(panel + kKeyBlock * kKeyPanel + 2 * lane, &scales[half].scale, 2);
    }
  }
}

inline void store_value_int8(const float* value, int head_dim, std::byte* panel, std::size_t lane) {
  for (int d = 0; d < head_dim; d += kValueBlock, panel += kValueBlockBytes) {
    const float* x = value + d;
    const KvScale scale = kv_scale(max(absolute(load(x)), absolute(load(x + 16))));
    narrow_kv(x, scale, scale, reinterpret_cast<std::int8_t*>(panel) + lane * kValueBlock);
    std::memcpy(panel + kValueBlock * kKeyPanel + 2 * lane, &scale.scale, 2);
  }
}

inline void store_int8(const float* key, const float* value, int head_dim, std::byte* head,
                       int place) {
  const auto lane = static_cast<std::size_t>(place % kKeyPanel);
  const auto panel = static_cast<std::size_t>(place / kKeyPanel);
  const KvPanelBytes bytes = kv_panel_bytes(KvFormat::kInt8, head_dim);
  store_key_int8(key, head_dim, head + panel * bytes.keys, lane);
  store_value_int8(value, head_dim, head + kPagePanels * bytes.keys + panel * bytes.values, lane);
}

void store_kv(KvFormat format, const float* key, const float* value, int head_dim, std::byte* head,
              int place) {
  const auto store = format == KvFormat::kInt8 ? store_int8 : store_bf16;
  store(key, value, head_dim, head, place);
}
