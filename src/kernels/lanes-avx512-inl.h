// The lanes of AVX-512. Whoever includes them has the intrinsics, the processor's or emulated ones,
// and gives add_word_products(sum, w, x): to sixteen sums two products of words each.
#pragma once

#include "kernels/isa.h"

struct Floats {
  __m512 v;
};
struct Ints {
  __m512i v;
};
using Bytes = Ints;

inline __m128i load_128(const std::uint8_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}

inline Floats load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void store(float* p, Floats x) { _mm512_storeu_ps(p, x.v); }
inline Ints load_int(const std::int32_t* p) { return {_mm512_loadu_si512(p)}; }
inline void store_int(std::int32_t* p, Ints x) { _mm512_storeu_si512(p, x.v); }
inline Floats broadcast(float x) { return {_mm512_set1_ps(x)}; }
inline Ints broadcast_int(int x) { return {_mm512_set1_epi32(x)}; }
inline Floats add(Floats x, Floats y) { return {_mm512_add_ps(x.v, y.v)}; }
inline Floats sub(Floats x, Floats y) { return {_mm512_sub_ps(x.v, y.v)}; }
inline Floats mul(Floats x, Floats y) { return {_mm512_mul_ps(x.v, y.v)}; }
inline Floats div(Floats x, Floats y) { return {_mm512_div_ps(x.v, y.v)}; }
inline Floats max(Floats x, Floats y) { return {_mm512_max_ps(x.v, y.v)}; }
inline Floats min(Floats x, Floats y) { return {_mm512_min_ps(x.v, y.v)}; }
inline Floats fma(Floats x, Floats y, Floats z) { return {_mm512_fmadd_ps(x.v, y.v, z.v)}; }
inline Floats absolute(Floats x) {
  return {_mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(x.v), _mm512_set1_epi32(0x7FFFFFFF)))};
}
inline Ints add(Ints x, Ints y) { return {_mm512_add_epi32(x.v, y.v)}; }
inline Ints sub(Ints x, Ints y) { return {_mm512_sub_epi32(x.v, y.v)}; }
inline Ints mul(Ints x, Ints y) { return {_mm512_mullo_epi32(x.v, y.v)}; }
inline Floats to_float(Ints x) { return {_mm512_cvtepi32_ps(x.v)}; }
inline Ints round_to_int(Floats x) { return {_mm512_cvtps_epi32(x.v)}; }
inline Floats power_of_two(Ints n) {
  return {
      _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n.v, _mm512_set1_epi32(127)), 23))};
}

// Lanes i and i+8, then i+4, i+2, i+1: the order on every ISA.
inline float reduce_add(Floats x) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float reduce_max(Floats x) {
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

inline Floats load_half(const std::uint8_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline Ints load_u8_rows(const std::uint8_t* p) { return {_mm512_cvtepu8_epi32(load_128(p))}; }
inline Ints load_half_scales(const std::uint8_t* p) { return {_mm512_cvtepi8_epi32(load_128(p))}; }

#include "kernels/narrow-x86-inl.h"

inline int narrow_block(Ints first, Ints second, std::int8_t* values, std::int16_t* sums) {
  return store_narrow(_mm512_cvtepi32_epi8(first.v), _mm512_cvtepi32_epi8(second.v), values, sums);
}

inline Floats load_even_bf16(const std::uint16_t* p) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16))};
}
inline Floats load_odd_bf16(const std::uint16_t* p) {
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xFFFF0000U));
  return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), high))};
}

inline Floats load_bf16(const std::uint16_t* p) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16))};
}
inline Floats load_int8(const std::int8_t* p) {
  return {_mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}

inline constexpr int kAttentionChains = 16;
inline constexpr int kRowTile = 8;

// Of 32 registers: 8 integer and 8 float accumulators and what it takes to unpack; 12 of each, two
// weights, and an activation for both.
inline constexpr int kTile = 8;
inline constexpr int kPlainPanels = 2;
inline constexpr int kPlainTokens = 6;
inline constexpr bool kFewRegisters = false;
inline constexpr int kByteBias =
    128;  // vpdpbusd takes its first operand as unsigned: int8 weights go in with 128 added.

inline Bytes load_group(const std::uint8_t* p) { return {_mm512_loadu_si512(p)}; }
inline void store_group(std::uint8_t* p, Bytes q) { _mm512_storeu_si512(p, q.v); }
inline Bytes nibble_low(Bytes q) { return {_mm512_and_si512(q.v, _mm512_set1_epi8(15))}; }
inline Bytes nibble_high(Bytes q) {
  return {_mm512_and_si512(_mm512_srli_epi16(q.v, 4), _mm512_set1_epi8(15))};
}

inline Bytes look_up(Bytes q, const std::uint8_t* table) {  // Every byte, 0 … 15, becomes table's.
  return {_mm512_shuffle_epi8(_mm512_broadcast_i32x4(load_128(table)), q.v)};
}

// Words of a table, by sixteen bytes. One by one: a gather is slower where it is microcode.
inline __m128i four_words(const std::uint8_t* p, const std::uint32_t* table) {
  const auto word = [&](int i) { return static_cast<int>(table[p[i]]); };
  return _mm_set_epi32(word(3), word(2), word(1), word(0));
}
inline Bytes look_up_fours(const std::uint8_t* p, const std::uint32_t* table) {
  __m512i out = _mm512_castsi128_si512(four_words(p, table));
  out = _mm512_inserti32x4(out, four_words(p + 4, table), 1);
  out = _mm512_inserti32x4(out, four_words(p + 8, table), 2);
  return {_mm512_inserti32x4(out, four_words(p + 12, table), 3)};
}
template <int kBit>
inline Bytes negate_where(Bytes q, Bytes plane) {
  const __mmask64 set =
      _mm512_test_epi8_mask(plane.v, _mm512_set1_epi8(static_cast<char>(1 << kBit)));
  return {_mm512_mask_sub_epi8(q.v, set, _mm512_setzero_si512(), q.v)};
}
inline Bytes spread_rows(const std::uint8_t* p) {  // Each of 16 bytes four times.
  constexpr int kFour = 0x01010101;
  const __m512i index = _mm512_set_epi32(15 * kFour, 14 * kFour, 13 * kFour, 12 * kFour, 11 * kFour,
                                         10 * kFour, 9 * kFour, 8 * kFour, 7 * kFour, 6 * kFour,
                                         5 * kFour, 4 * kFour, 3 * kFour, 2 * kFour, kFour, 0);
  return {_mm512_shuffle_epi8(_mm512_broadcast_i32x4(load_128(p)), index)};
}

template <int kShift, int kMask>
inline Bytes merge_plane(
    Bytes q,
    Bytes plane) {  // Moves bit kShift of every byte to bit 4 (others arrive too), masks, merges.
  const __m512i mask = _mm512_set1_epi8(kMask);
  if constexpr (kShift < 4) {
    return {_mm512_or_si512(q.v, _mm512_and_si512(_mm512_slli_epi16(plane.v, 4 - kShift), mask))};
  } else {
    return {_mm512_or_si512(q.v, _mm512_and_si512(_mm512_srli_epi16(plane.v, kShift - 4), mask))};
  }
}

inline __m512i broadcast_four(const std::int8_t* p) {
  std::int32_t word;
  std::memcpy(&word, p, 4);
  return _mm512_set1_epi32(word);
}

// 8-bit weights plus kByteBias. The sums are exact: 255 · 127 · 32 is far below 2^31.
template <int kBits>
LAPIDARY_INLINE Bytes load_weights(Bytes w) {
  if constexpr (kBits == 8) w.v = _mm512_xor_si512(w.v, _mm512_set1_epi8(-128));
  return w;
}
LAPIDARY_INLINE Ints dot(Ints sum, Bytes w, const std::int8_t* x) {
  return {_mm512_dpbusd_epi32(sum.v, w.v, broadcast_four(x))};
}

LAPIDARY_INLINE Ints dot_each(Ints sum, Bytes w, const std::int8_t* x) {
  return {_mm512_dpbusd_epi32(sum.v, w.v, _mm512_loadu_si512(x))};
}

template <int kFactor>
LAPIDARY_INLINE Ints times_total(const std::int16_t* p) {
  const __m512i two = broadcast_four(reinterpret_cast<const std::int8_t*>(p));
  return {_mm512_madd_epi16(two, _mm512_set1_epi16(kFactor))};
}

inline constexpr int kDenseTile = 8;
inline constexpr int kBfpPanels = 4;  // 16 sums, 4 weights, an activation.
inline constexpr int kBfpTile = 4;

LAPIDARY_INLINE void dot_pairs(Ints& sum, const Ints& w, std::int32_t x) {
  add_word_products(sum.v, w.v, _mm512_set1_epi32(x));
}
inline void store_words(std::int16_t* p, Ints v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(v.v));
}
inline Ints merge_pairs(Ints even, Ints odd) {
  return {_mm512_or_si512(_mm512_and_si512(even.v, _mm512_set1_epi32(0xFFFF)),
                          _mm512_slli_epi32(odd.v, 16))};
}

inline Bytes join_nibbles(Bytes high, Bytes low) {
  return {_mm512_xor_si512(_mm512_or_si512(_mm512_slli_epi16(high.v, 4), low.v),
                           _mm512_set1_epi8(-128))};
}
template <int kBits, int kShift>
inline Bytes bit_field(Bytes q) {  // Bits kShift … kShift + kBits - 1 of every byte.
  const __m512i mask = _mm512_set1_epi8((1 << kBits) - 1);
  return {_mm512_and_si512(_mm512_srli_epi16(q.v, kShift), mask)};
}
template <int kBits>
inline Bytes append_bits(Bytes q,
                         Bytes bits) {  // 2^kBits · q + bits, of bytes that stay below 256.
  return {_mm512_or_si512(_mm512_slli_epi16(q.v, kBits), bits.v)};
}
// Rows r, r + 4, r + 8 and r + 12 side by side.
inline __m512i load_four_rows(const std::uint8_t* row, std::size_t four_rows) {
  __m512i out = _mm512_castsi128_si512(load_128(row));
  out = _mm512_inserti32x4(out, load_128(row + four_rows), 1);
  out = _mm512_inserti32x4(out, load_128(row + 2 * four_rows), 2);
  return _mm512_inserti32x4(out, load_128(row + 3 * four_rows), 3);
}
// Word p of each of sixteen rows becomes plane p.
LAPIDARY_INLINE void load_low_rows(const std::uint8_t* rows, std::size_t stride, Bytes* planes) {
  const __m512i r0 = load_four_rows(rows, 4 * stride);
  const __m512i r1 = load_four_rows(rows + stride, 4 * stride);
  const __m512i r2 = load_four_rows(rows + 2 * stride, 4 * stride);
  const __m512i r3 = load_four_rows(rows + 3 * stride, 4 * stride);
  const __m512i a = _mm512_unpacklo_epi32(r0, r1), b = _mm512_unpacklo_epi32(r2, r3);
  const __m512i c = _mm512_unpackhi_epi32(r0, r1), d = _mm512_unpackhi_epi32(r2, r3);
  planes[0].v = _mm512_unpacklo_epi64(a, b);
  planes[1].v = _mm512_unpackhi_epi64(a, b);
  planes[2].v = _mm512_unpacklo_epi64(c, d);
  planes[3].v = _mm512_unpackhi_epi64(c, d);
}

template <int kBits>
inline Ints shift_right(Ints x) {  // Of lanes that are not negative.
  return {_mm512_srli_epi32(x.v, kBits)};
}
// The lanes, which are not negative, at most 255 each.
inline void store_bytes(std::uint8_t* p, Ints x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtusepi32_epi8(x.v));
}

inline Ints mask_lanes(Ints x, int mask) {
  return {_mm512_and_si512(x.v, _mm512_set1_epi32(mask))};
}
