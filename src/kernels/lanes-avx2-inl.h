// The lanes of ISAs with 256-bit vectors, avx2.cpp and avxvnni.cpp: all but the products of bytes.
#pragma once

#include <immintrin.h>

#include "kernels/isa.h"

// Sixteen lanes are two registers: lanes 0–7 and 8–15.
struct Floats {
  __m256 a, b;
};
struct Ints {
  __m256i a, b;
};
using Bytes = Ints;

inline Floats load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, Floats v) {
  _mm256_storeu_ps(p, v.a);
  _mm256_storeu_ps(p + 8, v.b);
}
inline Ints load_int(const std::int32_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8))};
}
inline void store_int(std::int32_t* p, Ints v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v.a);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), v.b);
}
inline Floats broadcast(float v) { return {_mm256_set1_ps(v), _mm256_set1_ps(v)}; }
inline Ints broadcast_int(int v) { return {_mm256_set1_epi32(v), _mm256_set1_epi32(v)}; }
inline Floats add(Floats x, Floats y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline Floats sub(Floats x, Floats y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline Floats mul(Floats x, Floats y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline Floats div(Floats x, Floats y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline Floats max(Floats x, Floats y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline Floats min(Floats x, Floats y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline Floats fma(Floats x, Floats y, Floats z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
inline Floats absolute(Floats x) {
  const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
  return {_mm256_and_ps(x.a, mask), _mm256_and_ps(x.b, mask)};
}
inline Ints add(Ints x, Ints y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
inline Ints sub(Ints x, Ints y) { return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)}; }
inline Ints mul(Ints x, Ints y) {
  return {_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)};
}
inline Floats to_float(Ints x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
inline Ints round_to_int(Floats x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
inline Floats power_of_two(Ints n) {
  const __m256i bias = _mm256_set1_epi32(127);
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n.a, bias), 23)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n.b, bias), 23))};
}
// Lanes i and i+8, then i+4, i+2, i+1: the order on every ISA.
inline float reduce_add(Floats x) {
  const __m256 eight = _mm256_add_ps(x.a, x.b);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float reduce_max(Floats x) {
  const __m256 eight = _mm256_max_ps(x.a, x.b);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

inline Floats load_half(const std::uint8_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16)))};
}
inline Ints load_u8_rows(const std::uint8_t* p) {
  return {_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8)))};
}
#include "kernels/narrow-x86-inl.h"

inline __m128i narrow_lanes(Ints v) {  // Each within int8.
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(v.a, v.b), 0xD8);
  return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}
inline int narrow_block(Ints first, Ints second, std::int8_t* values, std::int16_t* sums) {
  return store_narrow(narrow_lanes(first), narrow_lanes(second), values, sums);
}

inline Floats load_even_bf16(const std::uint16_t* p) {
  const Ints pairs = load_int(reinterpret_cast<const std::int32_t*>(p));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(pairs.a, 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(pairs.b, 16))};
}
inline Floats load_odd_bf16(const std::uint16_t* p) {
  const Ints pairs = load_int(reinterpret_cast<const std::int32_t*>(p));
  const __m256i high = _mm256_set1_epi32(static_cast<int>(0xFFFF0000U));
  return {_mm256_castsi256_ps(_mm256_and_si256(pairs.a, high)),
          _mm256_castsi256_ps(_mm256_and_si256(pairs.b, high))};
}

inline __m256 widen_bf16(const std::uint16_t* p) {
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}
inline Floats load_bf16(const std::uint16_t* p) { return {widen_bf16(p), widen_bf16(p + 8)}; }
inline __m256 widen_int8(const std::int8_t* p) {
  return _mm256_cvtepi32_ps(
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline Floats load_int8(const std::int8_t* p) { return {widen_int8(p), widen_int8(p + 8)}; }

inline constexpr int kAttentionChains = 4;
inline constexpr int kRowTile = 4;

inline Bytes load_group(const std::uint8_t* p) {
  return load_int(reinterpret_cast<const std::int32_t*>(p));
}
inline void store_group(std::uint8_t* p, Bytes v) {
  store_int(reinterpret_cast<std::int32_t*>(p), v);
}
inline Bytes nibble_low(Bytes v) {
  const __m256i mask = _mm256_set1_epi8(15);
  return {_mm256_and_si256(v.a, mask), _mm256_and_si256(v.b, mask)};
}
inline Bytes nibble_high(Bytes v) {
  const __m256i mask = _mm256_set1_epi8(15);
  return {_mm256_and_si256(_mm256_srli_epi16(v.a, 4), mask),
          _mm256_and_si256(_mm256_srli_epi16(v.b, 4), mask)};
}
inline Bytes look_up(Bytes q, const std::uint8_t* table) {  // Every byte, 0 … 15, becomes table's.
  const __m256i both =
      _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table)));
  return {_mm256_shuffle_epi8(both, q.a), _mm256_shuffle_epi8(both, q.b)};
}
// Words of a table, by sixteen bytes. One by one: a gather is slower where it is microcode.
inline __m256i eight_words(const std::uint8_t* p, const std::uint32_t* table) {
  const auto word = [&](int i) { return static_cast<int>(table[p[i]]); };
  return _mm256_set_epi32(word(7), word(6), word(5), word(4), word(3), word(2), word(1), word(0));
}
inline Bytes look_up_fours(const std::uint8_t* p, const std::uint32_t* table) {
  return {eight_words(p, table), eight_words(p + 8, table)};
}
template <int kBit>
inline __m256i negate_part(__m256i q, __m256i plane) {
  const __m256i bit = _mm256_set1_epi8(static_cast<char>(1 << kBit));
  const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(plane, bit), bit);
  return _mm256_sub_epi8(_mm256_xor_si256(q, set), set);
}
template <int kBit>
inline Bytes negate_where(Bytes q, Bytes plane) {
  return {negate_part<kBit>(q.a, plane.a), negate_part<kBit>(q.b, plane.b)};
}
inline Bytes spread_rows(const std::uint8_t* p) {  // Each of 16 bytes four times.
  constexpr int kFour = 0x01010101;
  const __m256i rows =
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m256i index =
      _mm256_set_epi32(7 * kFour, 6 * kFour, 5 * kFour, 4 * kFour, 3 * kFour, 2 * kFour, kFour, 0);
  const __m256i next = _mm256_add_epi8(index, _mm256_set1_epi8(8));
  return {_mm256_shuffle_epi8(rows, index), _mm256_shuffle_epi8(rows, next)};
}
template <int kShift>
inline __m256i shift_to_four(
    __m256i v) {  // Moves bit kShift of every byte to bit 4 (others arrive too).
  if constexpr (kShift < 4) {
    return _mm256_slli_epi16(v, 4 - kShift);
  } else {
    return _mm256_srli_epi16(v, kShift - 4);
  }
}
template <int kShift, int kMask>
inline Bytes merge_plane(Bytes q, Bytes plane) {
  const __m256i mask = _mm256_set1_epi8(kMask);
  return {_mm256_or_si256(q.a, _mm256_and_si256(shift_to_four<kShift>(plane.a), mask)),
          _mm256_or_si256(q.b, _mm256_and_si256(shift_to_four<kShift>(plane.b), mask))};
}

inline __m256i broadcast_four(const std::int8_t* p) {
  std::int32_t word;
  std::memcpy(&word, p, 4);
  return _mm256_set1_epi32(word);
}

inline constexpr int kDenseTile = 4;
inline constexpr int kBfpPanels = 1;
inline constexpr int kBfpTile = 6;  // 12 accumulators, 2 weights, a broadcast, a product.

LAPIDARY_INLINE void dot_pairs(Ints& sum, const Ints& w, std::int32_t x) {
  const __m256i pair = _mm256_set1_epi32(x);
  // As text: compilers move all products to the front, for which there are too few registers.
  __m256i product;
  asm volatile(
      "vpmaddwd %[w], %[pair], %[product]\n\t"
      "vpaddd %[product], %[sum], %[sum]"
      : [sum] "+x"(sum.a), [product] "=&x"(product)
      : [w] "x"(w.a), [pair] "x"(pair));
  asm volatile(
      "vpmaddwd %[w], %[pair], %[product]\n\t"
      "vpaddd %[product], %[sum], %[sum]"
      : [sum] "+x"(sum.b), [product] "=&x"(product)
      : [w] "x"(w.b), [pair] "x"(pair));
}
inline void store_words(std::int16_t* p, Ints v) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(v.a, v.b), 0xD8);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), words);
}
inline Ints merge_pairs(Ints even, Ints odd) {
  return {_mm256_blend_epi16(even.a, _mm256_slli_epi32(odd.a, 16), 0xAA),
          _mm256_blend_epi16(even.b, _mm256_slli_epi32(odd.b, 16), 0xAA)};
}

inline Bytes join_nibbles(Bytes high, Bytes low) {
  const __m256i sign = _mm256_set1_epi8(-128);
  return {_mm256_xor_si256(_mm256_or_si256(_mm256_slli_epi16(high.a, 4), low.a), sign),
          _mm256_xor_si256(_mm256_or_si256(_mm256_slli_epi16(high.b, 4), low.b), sign)};
}
template <int kBits, int kShift>
inline Bytes bit_field(Bytes q) {  // Bits kShift … kShift + kBits - 1 of every byte.
  const __m256i mask = _mm256_set1_epi8((1 << kBits) - 1);
  return {_mm256_and_si256(_mm256_srli_epi16(q.a, kShift), mask),
          _mm256_and_si256(_mm256_srli_epi16(q.b, kShift), mask)};
}
template <int kBits>
inline Bytes append_bits(Bytes q,
                         Bytes bits) {  // 2^kBits · q + bits, of bytes that stay below 256.
  return {_mm256_or_si256(_mm256_slli_epi16(q.a, kBits), bits.a),
          _mm256_or_si256(_mm256_slli_epi16(q.b, kBits), bits.b)};
}
// Rows r and r + 4 side by side.
inline __m256i load_row_pair(const std::uint8_t* row, std::size_t four_rows) {
  const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row));
  const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + four_rows));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1);
}
// Word p of each of eight rows becomes a register: plane p.
LAPIDARY_INLINE void transpose_eight(const std::uint8_t* rows, std::size_t stride, __m256i* out) {
  const __m256i r0 = load_row_pair(rows, 4 * stride);
  const __m256i r1 = load_row_pair(rows + stride, 4 * stride);
  const __m256i r2 = load_row_pair(rows + 2 * stride, 4 * stride);
  const __m256i r3 = load_row_pair(rows + 3 * stride, 4 * stride);
  const __m256i a = _mm256_unpacklo_epi32(r0, r1), b = _mm256_unpacklo_epi32(r2, r3);
  const __m256i c = _mm256_unpackhi_epi32(r0, r1), d = _mm256_unpackhi_epi32(r2, r3);
  out[0] = _mm256_unpacklo_epi64(a, b);
  out[1] = _mm256_unpackhi_epi64(a, b);
  out[2] = _mm256_unpacklo_epi64(c, d);
  out[3] = _mm256_unpackhi_epi64(c, d);
}
LAPIDARY_INLINE void load_low_rows(const std::uint8_t* rows, std::size_t stride, Bytes* planes) {
  __m256i first[4], second[4];
  transpose_eight(rows, stride, first);
  transpose_eight(rows + 8 * stride, stride, second);
  for (int p = 0; p < 4; ++p) planes[p] = {first[p], second[p]};
}

template <int kBits>
inline Ints shift_right(Ints x) {  // Of lanes that are not negative.
  return {_mm256_srli_epi32(x.a, kBits), _mm256_srli_epi32(x.b, kBits)};
}
// The lanes, which are not negative, at most 255 each.
inline void store_bytes(std::uint8_t* p, Ints x) {
  const __m256i words = _mm256_packus_epi32(x.a, x.b);  // Quarters of x: 0, 2, 1, 3.
  const __m256i bytes = _mm256_packus_epi16(_mm256_permute4x64_epi64(words, 0xD8), words);
  const __m256i low = _mm256_permute4x64_epi64(bytes, 0xD8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(low));
}

inline Ints mask_lanes(Ints x, int mask) {
  const __m256i bits = _mm256_set1_epi32(mask);
  return {_mm256_and_si256(x.a, bits), _mm256_and_si256(x.b, bits)};
}

// Rounds of twelve independent int8 products of 32 weights and 32 activations.
template <class Product, int kLeft>
LAPIDARY_INLINE void peak_round(__m256i* sums, __m256i w, __m256i x) {
  if constexpr (kLeft > 0) {
    *sums = Product{}(*sums, w, x);
    asm volatile("" : "+x"(*sums), "+x"(w));  // Nothing leaves the loop.
    peak_round<Product, kLeft - 1>(sums + 1, w, x);
  }
}
template <class Product>
std::uint64_t run_peak(std::uint64_t iterations) {
  __m256i sums[12] = {};
  for (std::uint64_t i = 0; i < iterations; ++i)
    peak_round<Product, 12>(sums, _mm256_set1_epi8(3), _mm256_set1_epi8(-2));
  return iterations * 12 * 64;
}
