// The lanes of the scalar reference, arrays of sixteen: what each primitive of vocabulary-inl.h
// means, in plain C++. The scalar table does without the products of bytes, which alone.h shows to
// a fragment that is read by itself.
#pragma once

#include "kernels/isa.h"

struct Floats {
  float lane[16];
};
struct Ints {
  std::int32_t lane[16];
};

#define LAPIDARY_EACH_LANE(type, expression)             \
  type out;                                              \
  for (int i = 0; i < 16; ++i) out.lane[i] = expression; \
  return out

inline Floats load(const float* p) { LAPIDARY_EACH_LANE(Floats, p[i]); }
inline void store(float* p, const Floats& v) { std::memcpy(p, v.lane, sizeof v.lane); }
inline void store_int(std::int32_t* p, const Ints& v) { std::memcpy(p, v.lane, sizeof v.lane); }
inline Floats broadcast(float v) { LAPIDARY_EACH_LANE(Floats, v); }
inline Ints broadcast_int(int v) { LAPIDARY_EACH_LANE(Ints, v); }
inline Floats add(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_LANE(Floats, x.lane[i] + y.lane[i]);
}
inline Floats sub(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_LANE(Floats, x.lane[i] - y.lane[i]);
}
inline Floats mul(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_LANE(Floats, x.lane[i] * y.lane[i]);
}
inline Floats div(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_LANE(Floats, x.lane[i] / y.lane[i]);
}
inline Floats max(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_LANE(Floats, x.lane[i] > y.lane[i] ? x.lane[i] : y.lane[i]);
}
inline Floats min(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_LANE(Floats, x.lane[i] < y.lane[i] ? x.lane[i] : y.lane[i]);
}
inline Floats fma(const Floats& x, const Floats& y, const Floats& z) {
  LAPIDARY_EACH_LANE(Floats, std::fma(x.lane[i], y.lane[i], z.lane[i]));
}
inline Floats absolute(const Floats& x) { LAPIDARY_EACH_LANE(Floats, std::fabs(x.lane[i])); }
inline Ints sub(const Ints& x, const Ints& y) { LAPIDARY_EACH_LANE(Ints, x.lane[i] - y.lane[i]); }
inline Ints mul(const Ints& x, const Ints& y) { LAPIDARY_EACH_LANE(Ints, x.lane[i] * y.lane[i]); }
inline Floats to_float(const Ints& x) { LAPIDARY_EACH_LANE(Floats, static_cast<float>(x.lane[i])); }
// What fits no integer becomes the least one, as on x86; NaN too.
inline std::int32_t round_to_int(float x) {
  const float rounded = std::nearbyint(x);
  const bool fits = rounded >= -0x1p31F && rounded < 0x1p31F;
  return fits ? static_cast<std::int32_t>(rounded) : std::numeric_limits<std::int32_t>::min();
}
inline Ints round_to_int(const Floats& x) { LAPIDARY_EACH_LANE(Ints, round_to_int(x.lane[i])); }
inline Floats power_of_two(const Ints& n) {
  LAPIDARY_EACH_LANE(Floats,
                     std::bit_cast<float>(static_cast<std::uint32_t>(n.lane[i] + 127) << 23));
}
inline Floats load_half(const std::uint8_t* p) {
  Floats out;
  for (int i = 0; i < 16; ++i) {
    std::uint16_t half;
    std::memcpy(&half, p + 2 * i, 2);
    out.lane[i] = lapidary::half_to_float(half);
  }
  return out;
}
inline float reduce_add(Floats x) {
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) x.lane[i] += x.lane[i + width];
  }
  return x.lane[0];
}
inline float reduce_max(const Floats& x) {
  float top = x.lane[0];
  for (float v : x.lane) top = v > top ? v : top;
  return top;
}

// Writes a block's int8 values and their sums, as kBlockSums says, and returns the sum of all.
inline int narrow_block(const Ints& first, const Ints& second, std::int8_t* values,
                        std::int16_t* sums) {
  int pairs[2] = {}, first_pairs[2] = {};
  for (int i = 0; i < 16; ++i) {
    values[i] = static_cast<std::int8_t>(first.lane[i]);
    values[i + 16] = static_cast<std::int8_t>(second.lane[i]);
    first_pairs[i / 2 % 2] += first.lane[i];
    pairs[i / 2 % 2] += first.lane[i] + second.lane[i];
  }
  for (int i = 0; i < 2; ++i) {
    sums[i] = static_cast<std::int16_t>(pairs[i]);
    sums[i + 2] = static_cast<std::int16_t>(first_pairs[i]);
  }
  return pairs[0] + pairs[1];
}

inline Floats load_even_bf16(const std::uint16_t* p) {
  LAPIDARY_EACH_LANE(Floats, lapidary::bf16_to_float(p[2 * i]));
}
inline Floats load_odd_bf16(const std::uint16_t* p) {
  LAPIDARY_EACH_LANE(Floats, lapidary::bf16_to_float(p[2 * i + 1]));
}

inline Floats load_bf16(const std::uint16_t* p) {
  LAPIDARY_EACH_LANE(Floats, lapidary::bf16_to_float(p[i]));
}
inline Floats load_int8(const std::int8_t* p) {
  LAPIDARY_EACH_LANE(Floats, static_cast<float>(p[i]));
}

inline constexpr int kAttentionChains = 4;
inline constexpr int kRowTile = 4;

inline constexpr int kDenseTile = 4;
inline constexpr int kBfpPanels = 1;
inline constexpr int kBfpTile = 4;

inline Ints load_int(const std::int32_t* p) { LAPIDARY_EACH_LANE(Ints, p[i]); }
inline Ints add(const Ints& x, const Ints& y) { LAPIDARY_EACH_LANE(Ints, x.lane[i] + y.lane[i]); }
inline void dot_pairs(Ints& sum, const Ints& w, std::int32_t x) {
  std::int16_t v[2];
  std::memcpy(v, &x, 4);
  for (int i = 0; i < 16; ++i) {
    std::int16_t row[2];
    std::memcpy(row, &w.lane[i], 4);
    sum.lane[i] += row[0] * v[0] + row[1] * v[1];
  }
}
inline void store_words(std::int16_t* p, const Ints& v) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<std::int16_t>(v.lane[i]);
}
inline Ints merge_pairs(const Ints& even, const Ints& odd) {
  Ints out;
  for (int i = 0; i < 16; ++i) {
    const std::int16_t pair[2] = {static_cast<std::int16_t>(even.lane[i]),
                                  static_cast<std::int16_t>(odd.lane[i])};
    std::memcpy(&out.lane[i], pair, 4);
  }
  return out;
}

// One row's product with one block of activations.
inline int dot(const int* w, const std::int8_t* x) {
  int sum = 0;
  for (int k = 0; k < kBlock; ++k) sum += w[k] * x[k];
  return sum;
}

inline std::uint64_t int8_peak(std::uint64_t iterations) {
  int w[kBlock];
  std::int8_t x[kBlock];
  for (int k = 0; k < kBlock; ++k) {
    w[k] = k;
    x[k] = static_cast<std::int8_t>(k - 16);
  }
  int sum = 0;
  for (std::uint64_t i = 0; i < iterations; ++i) {
    sum += dot(w, x);
    asm volatile("" : "+r"(sum) : "r"(w), "r"(x) : "memory");
  }
  return iterations * kBlock * 2;
}

inline Ints load_u8_rows(const std::uint8_t* p) { LAPIDARY_EACH_LANE(Ints, p[i]); }
template <int kBits>
inline Ints shift_right(const Ints& x) {  // Of lanes that are not negative.
  LAPIDARY_EACH_LANE(Ints, x.lane[i] >> kBits);
}
// The lanes, which are not negative, at most 255 each.
inline void store_bytes(std::uint8_t* p, const Ints& x) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<std::uint8_t>(x.lane[i] < 255 ? x.lane[i] : 255);
}

inline Ints mask_lanes(const Ints& x, int mask) { LAPIDARY_EACH_LANE(Ints, x.lane[i] & mask); }

// Products of bytes.
struct Bytes {
  std::uint8_t byte[64];
};

#define LAPIDARY_EACH_BYTE(expression)                                              \
  Bytes out;                                                                        \
  for (int i = 0; i < 64; ++i) out.byte[i] = static_cast<std::uint8_t>(expression); \
  return out

inline Bytes load_group(const std::uint8_t* p) { LAPIDARY_EACH_BYTE(p[i]); }
inline void store_group(std::uint8_t* p, const Bytes& q) { std::memcpy(p, q.byte, sizeof q.byte); }
inline Bytes nibble_low(const Bytes& q) { LAPIDARY_EACH_BYTE(q.byte[i] & 15); }
inline Bytes nibble_high(const Bytes& q) { LAPIDARY_EACH_BYTE(q.byte[i] >> 4); }
template <int kBits, int kShift>
inline Bytes bit_field(const Bytes& q) {
  LAPIDARY_EACH_BYTE(q.byte[i] >> kShift & ((1 << kBits) - 1));
}
template <int kShift, int kMask>
inline Bytes merge_plane(const Bytes& q, const Bytes& plane) {
  LAPIDARY_EACH_BYTE(q.byte[i] | ((plane.byte[i] << 4 >> kShift) & kMask));
}
template <int kBits>
inline Bytes append_bits(const Bytes& q, const Bytes& low) {
  LAPIDARY_EACH_BYTE(q.byte[i] << kBits | low.byte[i]);
}
inline Bytes join_nibbles(const Bytes& high, const Bytes& low) {
  LAPIDARY_EACH_BYTE(16 * (high.byte[i] - 8) + low.byte[i]);
}
inline Bytes look_up(const Bytes& q, const std::uint8_t* table) {
  LAPIDARY_EACH_BYTE(table[q.byte[i]]);
}
inline Bytes look_up_fours(const std::uint8_t* p, const std::uint32_t* table) {
  LAPIDARY_EACH_BYTE(table[p[i / 4]] >> 8 * (i % 4));
}
template <int kBit>
inline Bytes negate_where(const Bytes& q, const Bytes& plane) {
  LAPIDARY_EACH_BYTE((plane.byte[i] >> kBit & 1) != 0 ? -q.byte[i] : q.byte[i]);
}
inline Bytes spread_rows(const std::uint8_t* p) { LAPIDARY_EACH_BYTE(p[i / 4]); }
inline void load_low_rows(const std::uint8_t* rows, std::size_t stride, Bytes* planes) {
  for (std::size_t row = 0; row < 16; ++row) {
    for (std::size_t p = 0; p < 4; ++p)
      std::memcpy(planes[p].byte + 4 * row, rows + row * stride + 4 * p, 4);
  }
}
inline Ints load_half_scales(const std::uint8_t* p) {
  LAPIDARY_EACH_LANE(Ints, static_cast<std::int8_t>(p[i]));
}

inline constexpr int kTile = 4;
inline constexpr int kPlainPanels = 1;
inline constexpr int kPlainTokens = 4;
inline constexpr bool kFewRegisters = false;
inline constexpr int kByteBias = 0;

// The sum of products of some bytes of a row, from `begin` on, as Byte's, with x.
template <class Byte>
inline int row_products(const Bytes& q, int row, const std::int8_t* x, int begin, int end) {
  int sum = 0;
  for (int i = begin; i < end; ++i) sum += static_cast<Byte>(q.byte[4 * row + i]) * x[i];
  return sum;
}
template <int kBits>
inline Bytes load_weights(const Bytes& q) {
  return q;
}
inline Ints dot(const Ints& sum, const Bytes& q, const std::int8_t* x) {
  LAPIDARY_EACH_LANE(Ints, sum.lane[i] + row_products<std::int8_t>(q, i, x, 0, 4));
}
inline Ints dot_each(const Ints& sum, const Bytes& q, const std::int8_t* x) {
  LAPIDARY_EACH_LANE(Ints, sum.lane[i] + row_products<std::int8_t>(q, i, x + 4 * i, 0, 4));
}
template <int kFactor>
inline Ints times_total(const std::int16_t* p) {
  return broadcast_int(kFactor * (p[0] + p[1]));
}

// Words: two int16 in a lane, the first of them lower.
inline std::int16_t first_word(std::int32_t lane) { return static_cast<std::int16_t>(lane); }
inline std::int16_t second_word(std::int32_t lane) { return static_cast<std::int16_t>(lane >> 16); }
inline std::int32_t two_words(int first, int second) { return (first & 0xFFFF) | second << 16; }
template <class Byte>
inline std::int32_t product_words(const Bytes& q, int row, const std::int8_t* x) {
  return two_words(row_products<Byte>(q, row, x, 0, 2), row_products<Byte>(q, row, x, 2, 4));
}
inline Ints add_words(const Ints& x, const Ints& y) {
  LAPIDARY_EACH_LANE(Ints, two_words(first_word(x.lane[i]) + first_word(y.lane[i]),
                                     second_word(x.lane[i]) + second_word(y.lane[i])));
}
inline Ints sub_words(const Ints& x, const Ints& y) {
  LAPIDARY_EACH_LANE(Ints, two_words(first_word(x.lane[i]) - first_word(y.lane[i]),
                                     second_word(x.lane[i]) - second_word(y.lane[i])));
}
template <int kFactor>
inline Ints times(const Ints& x) {
  LAPIDARY_EACH_LANE(Ints,
                     two_words(kFactor * first_word(x.lane[i]), kFactor * second_word(x.lane[i])));
}
inline Ints widen(const Ints& x, const Ints& scales) {
  LAPIDARY_EACH_LANE(Ints, first_word(x.lane[i]) * first_word(scales.lane[i]) +
                               second_word(x.lane[i]) * second_word(scales.lane[i]));
}
inline Ints broadcast_words(const std::int16_t* p) {
  LAPIDARY_EACH_LANE(Ints, two_words(p[0], p[1]));
}
inline void first_products(Ints& sum, const Bytes& q, const std::int8_t* x) {
  for (int i = 0; i < 16; ++i) sum.lane[i] = product_words<std::uint8_t>(q, i, x);
}
inline void add_products(Ints& sum, const Bytes& q, const std::int8_t* x) {
  Ints products;
  first_products(products, q, x);
  sum = add_words(sum, products);
}
inline Ints products_each(const Bytes& q, const std::int8_t* x) {
  LAPIDARY_EACH_LANE(Ints, product_words<std::uint8_t>(q, i, x + 4 * i));
}
inline Bytes magnitudes(const Bytes& q) {
  LAPIDARY_EACH_BYTE(q.byte[i] < 128 ? q.byte[i] : 256 - q.byte[i]);
}
inline Ints signed_products(const Bytes&, const Bytes& q, const std::int8_t* x) {
  LAPIDARY_EACH_LANE(Ints, product_words<std::int8_t>(q, i, x));
}
inline void keep_chain(Ints&) {}
