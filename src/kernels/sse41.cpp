#include <immintrin.h>

#include "kernels/isa.h"

#define LAPIDARY_BYTE_PRODUCTS 2
#define LAPIDARY_TARGET "sse3,ssse3,sse4.1"
LAPIDARY_ENTER_TARGET(LAPIDARY_TARGET)

// For x86-64 processors without AVX2 and FMA: the first Core i, Atoms, virtual machines that show
// no more.
namespace lapidary::kernels {
namespace {

#include "kernels/fma-sse2-inl.h"

// Sixteen lanes are four registers.
struct Floats {
  __m128 v[4];
};
struct Ints {
  __m128i v[4];
};
using Bytes = Ints;

#define LAPIDARY_EACH_PART(type, expression)         \
  type out;                                          \
  LAPIDARY_UNROLL                                    \
  for (int i = 0; i < 4; ++i) out.v[i] = expression; \
  return out

inline __m128i load_128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline void store_128(void* p, __m128i x) { _mm_storeu_si128(static_cast<__m128i*>(p), x); }
inline __m128i load_32(const void* p) {
  std::int32_t word;
  std::memcpy(&word, p, 4);
  return _mm_cvtsi32_si128(word);
}

inline Floats load(const float* p) { LAPIDARY_EACH_PART(Floats, _mm_loadu_ps(p + 4 * i)); }
inline void store(float* p, const Floats& x) {
  LAPIDARY_UNROLL
  for (int i = 0; i < 4; ++i) _mm_storeu_ps(p + 4 * i, x.v[i]);
}
inline Ints load_int(const std::int32_t* p) { LAPIDARY_EACH_PART(Ints, load_128(p + 4 * i)); }
inline void store_int(std::int32_t* p, const Ints& x) {
  LAPIDARY_UNROLL
  for (int i = 0; i < 4; ++i) store_128(p + 4 * i, x.v[i]);
}
inline Floats broadcast(float x) { LAPIDARY_EACH_PART(Floats, _mm_set1_ps(x)); }
inline Ints broadcast_int(int x) { LAPIDARY_EACH_PART(Ints, _mm_set1_epi32(x)); }
inline Floats add(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_PART(Floats, _mm_add_ps(x.v[i], y.v[i]));
}
inline Floats sub(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_PART(Floats, _mm_sub_ps(x.v[i], y.v[i]));
}
inline Floats mul(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_PART(Floats, _mm_mul_ps(x.v[i], y.v[i]));
}
inline Floats div(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_PART(Floats, _mm_div_ps(x.v[i], y.v[i]));
}
inline Floats max(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_PART(Floats, _mm_max_ps(x.v[i], y.v[i]));
}
inline Floats min(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_PART(Floats, _mm_min_ps(x.v[i], y.v[i]));
}
[[gnu::noinline, gnu::cold]] Floats fma_rounded_once(Floats x, Floats y, Floats z) {
  LAPIDARY_EACH_PART(Floats, multiply_add(x.v[i], y.v[i], z.v[i]));
}
inline Floats fma(const Floats& x, const Floats& y, const Floats& z) {
  Floats out;
  __m128i doubtful[4];
  LAPIDARY_UNROLL
  for (int i = 0; i < 4; ++i) out.v[i] = multiply_add_twice(x.v[i], y.v[i], z.v[i], doubtful[i]);
  const __m128i any =
      _mm_or_si128(_mm_or_si128(doubtful[0], doubtful[1]), _mm_or_si128(doubtful[2], doubtful[3]));
  if (_mm_movemask_epi8(any) != 0) [[unlikely]]
    out = fma_rounded_once(x, y, z);
  return out;
}
inline Floats absolute(const Floats& x) {
  LAPIDARY_EACH_PART(Floats, _mm_andnot_ps(_mm_set1_ps(-0.0F), x.v[i]));
}
inline Ints add(const Ints& x, const Ints& y) {
  LAPIDARY_EACH_PART(Ints, _mm_add_epi32(x.v[i], y.v[i]));
}
inline Ints sub(const Ints& x, const Ints& y) {
  LAPIDARY_EACH_PART(Ints, _mm_sub_epi32(x.v[i], y.v[i]));
}
inline Ints mul(const Ints& x, const Ints& y) {
  LAPIDARY_EACH_PART(Ints, _mm_mullo_epi32(x.v[i], y.v[i]));
}
inline Floats to_float(const Ints& x) { LAPIDARY_EACH_PART(Floats, _mm_cvtepi32_ps(x.v[i])); }
inline Ints round_to_int(const Floats& x) { LAPIDARY_EACH_PART(Ints, _mm_cvtps_epi32(x.v[i])); }
inline Floats power_of_two(const Ints& n) {
  LAPIDARY_EACH_PART(
      Floats, _mm_castsi128_ps(_mm_slli_epi32(_mm_add_epi32(n.v[i], _mm_set1_epi32(127)), 23)));
}
// Lanes i and i+8, then i+4, i+2, i+1: the order on every ISA.
inline float reduce_add(const Floats& x) {
  const __m128 four = _mm_add_ps(_mm_add_ps(x.v[0], x.v[2]), _mm_add_ps(x.v[1], x.v[3]));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float reduce_max(const Floats& x) {
  const __m128 four = _mm_max_ps(_mm_max_ps(x.v[0], x.v[2]), _mm_max_ps(x.v[1], x.v[3]));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// Four fp16, in the lower halves of the lanes. In integers, so that no flag takes subnormal ones
// for zeros: these are 2^-24 times their mantissa; others get the exponent's other bias, infinities
// and NaNs the largest exponent.
inline __m128 half_to_floats(__m128i half) {
  const __m128i rest = _mm_and_si128(half, _mm_set1_epi32(0x7FFF));
  const __m128i bias = _mm_set1_epi32(112 << 23);
  const __m128i infinite = _mm_cmpgt_epi32(rest, _mm_set1_epi32(0x7BFF));
  const __m128i normal =
      _mm_add_epi32(_mm_add_epi32(_mm_slli_epi32(rest, 13), bias), _mm_and_si128(infinite, bias));
  const __m128 subnormal = _mm_mul_ps(_mm_cvtepi32_ps(rest), _mm_set1_ps(0x1p-24F));
  const __m128 is_subnormal = _mm_castsi128_ps(_mm_cmplt_epi32(rest, _mm_set1_epi32(0x400)));
  const __m128i sign = _mm_slli_epi32(_mm_srli_epi32(half, 15), 31);
  return _mm_or_ps(_mm_blendv_ps(_mm_castsi128_ps(normal), subnormal, is_subnormal),
                   _mm_castsi128_ps(sign));
}
inline Floats load_half(const std::uint8_t* p) {
  LAPIDARY_EACH_PART(Floats, half_to_floats(_mm_cvtepu16_epi32(
                                 _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8 * i)))));
}
inline Floats load_even_bf16(const std::uint16_t* p) {
  LAPIDARY_EACH_PART(Floats, _mm_castsi128_ps(_mm_slli_epi32(load_128(p + 8 * i), 16)));
}
inline Floats load_odd_bf16(const std::uint16_t* p) {
  const __m128i high = _mm_set1_epi32(static_cast<int>(0xFFFF0000U));
  LAPIDARY_EACH_PART(Floats, _mm_castsi128_ps(_mm_and_si128(load_128(p + 8 * i), high)));
}
inline Floats load_bf16(const std::uint16_t* p) {
  LAPIDARY_EACH_PART(Floats, _mm_castsi128_ps(_mm_unpacklo_epi16(
                                 _mm_setzero_si128(),
                                 _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 4 * i)))));
}
inline Floats load_int8(const std::int8_t* p) {
  LAPIDARY_EACH_PART(Floats, _mm_cvtepi32_ps(_mm_cvtepi8_epi32(load_32(p + 4 * i))));
}
inline Ints load_u8_rows(const std::uint8_t* p) {
  LAPIDARY_EACH_PART(Ints, _mm_cvtepu8_epi32(load_32(p + 4 * i)));
}
// The lanes, which are not negative, at most 255 each.
inline void store_bytes(std::uint8_t* p, const Ints& x) {
  store_128(p,
            _mm_packus_epi16(_mm_packus_epi32(x.v[0], x.v[1]), _mm_packus_epi32(x.v[2], x.v[3])));
}
inline void store_words(std::int16_t* p, const Ints& x) {
  store_128(p, _mm_packs_epi32(x.v[0], x.v[1]));
  store_128(p + 8, _mm_packs_epi32(x.v[2], x.v[3]));
}

#include "kernels/narrow-x86-inl.h"

inline __m128i narrow_lanes(const Ints& x) {  // Each within int8.
  return _mm_packs_epi16(_mm_packs_epi32(x.v[0], x.v[1]), _mm_packs_epi32(x.v[2], x.v[3]));
}
inline int narrow_block(const Ints& first, const Ints& second, std::int8_t* values,
                        std::int16_t* sums) {
  return store_narrow(narrow_lanes(first), narrow_lanes(second), values, sums);
}

inline Ints mask_lanes(const Ints& x, int mask) {
  LAPIDARY_EACH_PART(Ints, _mm_and_si128(x.v[i], _mm_set1_epi32(mask)));
}
template <int kBits>
inline Ints shift_right(const Ints& x) {  // Of lanes that are not negative.
  LAPIDARY_EACH_PART(Ints, _mm_srli_epi32(x.v[i], kBits));
}
inline Ints merge_pairs(const Ints& even, const Ints& odd) {
  LAPIDARY_EACH_PART(Ints, _mm_blend_epi16(even.v[i], _mm_slli_epi32(odd.v[i], 16), 0xAA));
}
LAPIDARY_INLINE void dot_pairs(Ints& sum, const Ints& w, std::int32_t x) {
  const __m128i pair = _mm_set1_epi32(x);
  LAPIDARY_UNROLL
  for (int i = 0; i < 4; ++i) sum.v[i] = _mm_add_epi32(sum.v[i], _mm_madd_epi16(w.v[i], pair));
}

// A fused multiply-add takes forty instructions, so little is gained by keeping sums in registers.
inline constexpr int kAttentionChains = 4;
inline constexpr int kRowTile = 4;
inline constexpr int kDenseTile = 4;
// Of 16 registers, 8 integer sums.
inline constexpr int kBfpPanels = 1;
inline constexpr int kBfpTile = 2;
inline constexpr int kTile = 2;
inline constexpr int kPlainPanels = 1;
inline constexpr int kPlainTokens = 2;
inline constexpr bool kFewRegisters = true;
inline constexpr int kByteBias = 0;  // Signed bytes go in as magnitude and sign.

inline Bytes load_group(const std::uint8_t* p) { LAPIDARY_EACH_PART(Bytes, load_128(p + 16 * i)); }
inline void store_group(std::uint8_t* p, const Bytes& q) {
  LAPIDARY_UNROLL
  for (int i = 0; i < 4; ++i) store_128(p + 16 * i, q.v[i]);
}
template <int kBits, int kShift>
inline Bytes bit_field(const Bytes& q) {  // Bits kShift … kShift + kBits - 1 of every byte.
  const __m128i mask = _mm_set1_epi8((1 << kBits) - 1);
  LAPIDARY_EACH_PART(Bytes, _mm_and_si128(_mm_srli_epi16(q.v[i], kShift), mask));
}
inline Bytes nibble_low(const Bytes& q) { return bit_field<4, 0>(q); }
inline Bytes nibble_high(const Bytes& q) { return bit_field<4, 4>(q); }
inline Bytes look_up(const Bytes& q, const std::uint8_t* table) {
  const __m128i entries = load_128(table);
  LAPIDARY_EACH_PART(Bytes, _mm_shuffle_epi8(entries, q.v[i]));
}
inline __m128i four_words(const std::uint8_t* p, const std::uint32_t* table) {
  const auto word = [&](int i) { return static_cast<int>(table[p[i]]); };
  return _mm_set_epi32(word(3), word(2), word(1), word(0));
}
inline Bytes look_up_fours(const std::uint8_t* p, const std::uint32_t* table) {
  LAPIDARY_EACH_PART(Bytes, four_words(p + 4 * i, table));
}
template <int kBit>
inline Bytes negate_where(const Bytes& q, const Bytes& plane) {
  const __m128i bit = _mm_set1_epi8(static_cast<char>(1 << kBit));
  const auto set = [&](int i) { return _mm_cmpeq_epi8(_mm_and_si128(plane.v[i], bit), bit); };
  LAPIDARY_EACH_PART(Bytes, _mm_sub_epi8(_mm_xor_si128(q.v[i], set(i)), set(i)));
}
inline Bytes spread_rows(const std::uint8_t* p) {  // Each of 16 bytes four times.
  const __m128i rows = load_128(p);
  const __m128i first = _mm_set_epi8(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
  LAPIDARY_EACH_PART(
      Bytes, _mm_shuffle_epi8(rows, _mm_add_epi8(first, _mm_set1_epi8(static_cast<char>(4 * i)))));
}
template <int kShift>
inline __m128i shift_to_four(__m128i v) {  // Moves bit kShift of every byte to bit 4, others too.
  if constexpr (kShift < 4) {
    return _mm_slli_epi16(v, 4 - kShift);
  } else {
    return _mm_srli_epi16(v, kShift - 4);
  }
}
template <int kShift, int kMask>
inline Bytes merge_plane(const Bytes& q, const Bytes& plane) {
  const __m128i mask = _mm_set1_epi8(kMask);
  LAPIDARY_EACH_PART(Bytes,
                     _mm_or_si128(q.v[i], _mm_and_si128(shift_to_four<kShift>(plane.v[i]), mask)));
}
template <int kBits>
inline Bytes append_bits(const Bytes& q, const Bytes& low) {
  LAPIDARY_EACH_PART(Bytes, _mm_or_si128(_mm_slli_epi16(q.v[i], kBits), low.v[i]));
}
inline Bytes join_nibbles(const Bytes& high, const Bytes& low) {
  const __m128i sign = _mm_set1_epi8(-128);
  LAPIDARY_EACH_PART(Bytes,
                     _mm_xor_si128(_mm_or_si128(_mm_slli_epi16(high.v[i], 4), low.v[i]), sign));
}
// Word p of each of sixteen rows becomes plane p, four rows at a time.
LAPIDARY_INLINE void load_low_rows(const std::uint8_t* rows, std::size_t stride, Bytes* planes) {
  LAPIDARY_UNROLL
  for (int i = 0; i < 4; ++i, rows += 4 * stride) {
    const __m128i r0 = load_128(rows), r1 = load_128(rows + stride);
    const __m128i r2 = load_128(rows + 2 * stride), r3 = load_128(rows + 3 * stride);
    const __m128i a = _mm_unpacklo_epi32(r0, r1), b = _mm_unpacklo_epi32(r2, r3);
    const __m128i c = _mm_unpackhi_epi32(r0, r1), d = _mm_unpackhi_epi32(r2, r3);
    planes[0].v[i] = _mm_unpacklo_epi64(a, b);
    planes[1].v[i] = _mm_unpackhi_epi64(a, b);
    planes[2].v[i] = _mm_unpacklo_epi64(c, d);
    planes[3].v[i] = _mm_unpackhi_epi64(c, d);
  }
}
// Each of 16 int8 scales twice, in both words of its lane: what pmaddwd multiplies by.
inline Ints load_half_scales(const std::uint8_t* p) {
  const __m128i rows = load_128(p);
  const __m128i low = _mm_unpacklo_epi8(rows, rows), high = _mm_unpackhi_epi8(rows, rows);
  return {{_mm_cvtepi8_epi16(low), _mm_cvtepi8_epi16(_mm_srli_si128(low, 8)),
           _mm_cvtepi8_epi16(high), _mm_cvtepi8_epi16(_mm_srli_si128(high, 8))}};
}

inline __m128i broadcast_four(const void* p) { return _mm_shuffle_epi32(load_32(p), 0); }
LAPIDARY_INLINE void keep_chain(Ints& sum) {
  asm("" : "+x"(sum.v[0]), "+x"(sum.v[1]), "+x"(sum.v[2]), "+x"(sum.v[3]));
}
LAPIDARY_INLINE void first_products(Ints& sum, const Bytes& w, const std::int8_t* x) {
  const __m128i four = broadcast_four(x);
  LAPIDARY_UNROLL
  for (int i = 0; i < 4; ++i) sum.v[i] = _mm_maddubs_epi16(w.v[i], four);
}
LAPIDARY_INLINE void add_products(Ints& sum, const Bytes& w, const std::int8_t* x) {
  const __m128i four = broadcast_four(x);
  LAPIDARY_UNROLL
  for (int i = 0; i < 4; ++i) sum.v[i] = _mm_add_epi16(sum.v[i], _mm_maddubs_epi16(w.v[i], four));
  keep_chain(sum);
}
LAPIDARY_INLINE Ints products_each(const Bytes& w, const std::int8_t* x) {
  LAPIDARY_EACH_PART(Ints, _mm_maddubs_epi16(w.v[i], load_128(x + 16 * i)));
}
LAPIDARY_INLINE Bytes magnitudes(const Bytes& w) {
  LAPIDARY_EACH_PART(Bytes, _mm_abs_epi8(w.v[i]));
}
LAPIDARY_INLINE Ints signed_products(const Bytes& magnitude, const Bytes& w, const std::int8_t* x) {
  const __m128i four = broadcast_four(x);
  LAPIDARY_EACH_PART(Ints, _mm_maddubs_epi16(magnitude.v[i], _mm_sign_epi8(four, w.v[i])));
}
LAPIDARY_INLINE Ints broadcast_words(const std::int16_t* p) {
  LAPIDARY_EACH_PART(Ints, broadcast_four(p));
}
LAPIDARY_INLINE Ints sub_words(const Ints& x, const Ints& y) {
  LAPIDARY_EACH_PART(Ints, _mm_sub_epi16(x.v[i], y.v[i]));
}
template <int kFactor>
LAPIDARY_INLINE Ints times(const Ints& words) {
  LAPIDARY_EACH_PART(Ints, _mm_mullo_epi16(words.v[i], _mm_set1_epi16(kFactor)));
}
LAPIDARY_INLINE Ints widen(const Ints& x, const Ints& scales) {
  LAPIDARY_EACH_PART(Ints, _mm_madd_epi16(x.v[i], scales.v[i]));
}

template <int kLeft>
LAPIDARY_INLINE void peak_round(__m128i* sums, __m128i w, __m128i x) {
  if constexpr (kLeft > 0) {
    *sums = _mm_add_epi16(*sums, _mm_maddubs_epi16(w, x));
    asm volatile("" : "+x"(*sums), "+x"(w));  // Nothing leaves the loop.
    peak_round<kLeft - 1>(sums + 1, w, x);
  }
}
std::uint64_t int8_peak(std::uint64_t iterations) {
  __m128i sums[12] = {};
  for (std::uint64_t i = 0; i < iterations; ++i)
    peak_round<12>(sums, _mm_set1_epi8(3), _mm_set1_epi8(-2));
  return iterations * 12 * 32;
}

#include "kernels/generic-inl.h"

}  // namespace

static_assert(is_known_target(LAPIDARY_TARGET));
const InstructionSet kSse41 = {make_table("sse41"), LAPIDARY_TARGET};

}  // namespace lapidary::kernels

LAPIDARY_LEAVE_TARGET
