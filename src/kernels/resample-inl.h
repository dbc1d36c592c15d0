// The two passes of an antialiased resize. A sum has the same bits in any order.
#pragma once

#include "kernels/vocabulary-inl.h"

inline constexpr int kResampleHalf = 1 << (kResampleBits - 1);

inline std::uint8_t weighted_byte(std::int32_t sum) {
  const std::int32_t value = sum >> kResampleBits;
  return static_cast<std::uint8_t>(value < 255 ? value : 255);
}

template <int kVectors>
LAPIDARY_INLINE void resample_columns(const std::uint8_t* rows, std::size_t stride,
                                      const std::int32_t* weights, int count, std::uint8_t* out) {
  Ints sums[kVectors];
  for (Ints& sum : sums) sum = broadcast_int(kResampleHalf);
  for (int j = 0; j < count; ++j, rows += stride) {
    const Ints weight = broadcast_int(weights[j]);
    for (int v = 0; v < kVectors; ++v)
      sums[v] = add(sums[v], mul(load_u8_rows(rows + 16 * v), weight));
  }
  for (int v = 0; v < kVectors; ++v) store_bytes(out + 16 * v, shift_right<kResampleBits>(sums[v]));
}

void resample_rows(const std::uint8_t* rows, std::size_t stride, const std::int32_t* weights,
                   int count, int n, std::uint8_t* out) {
  int i = 0;
  for (; i + 64 <= n; i += 64) resample_columns<4>(rows + i, stride, weights, count, out + i);
  for (; i + 16 <= n; i += 16) resample_columns<1>(rows + i, stride, weights, count, out + i);
  for (; i < n; ++i) {
    std::int32_t sum = kResampleHalf;
    for (int j = 0; j < count; ++j)
      sum += weights[j] * rows[static_cast<std::size_t>(j) * stride + static_cast<std::size_t>(i)];
    out[i] = weighted_byte(sum);
  }
}

inline Ints load_pixels(const std::uint8_t* p, std::size_t readable) {
  if (readable >= 16) return load_u8_rows(p);
  std::uint8_t padded[16] = {};
  std::memcpy(padded, p, readable);
  return load_u8_rows(padded);
}

void resample_pixels(const std::uint8_t* row, std::size_t row_bytes, const PixelTaps* taps,
                     int outputs, std::uint8_t* out) {
  for (int o = 0; o < outputs; ++o, out += 3) {
    std::size_t at = 3 * static_cast<std::size_t>(taps[o].first);
    const std::int32_t* weights = taps[o].weights;
    Ints sum = broadcast_int(0);
    for (int g = 0; g < taps[o].groups; ++g, at += 3 * kResamplePixels, weights += 16)
      sum = add(sum, mul(load_pixels(row + at, row_bytes - at), load_int(weights)));
    alignas(64) std::int32_t lanes[16];
    store_int(lanes, sum);
    for (int c = 0; c < 3; ++c) {
      std::int32_t total = kResampleHalf;
      for (int p = 0; p < kResamplePixels; ++p) total += lanes[3 * p + c];
      out[c] = weighted_byte(total);
    }
  }
}
