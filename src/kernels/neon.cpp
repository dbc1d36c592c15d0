#include <arm_neon.h>

#include "kernels/isa.h"

#define LAPIDARY_BYTE_PRODUCTS 4
#define LAPIDARY_TARGET "arch=armv8.2-a+dotprod"
#if !defined(__clang__)  // Clang cannot raise this architecture inside a file: CMakeLists.txt gives
                         // it the option.
LAPIDARY_ENTER_TARGET(LAPIDARY_TARGET)
#endif

namespace lapidary::kernels {
namespace {

// Sixteen lanes are four registers.
struct Floats {
  float32x4_t v[4];
};
struct Ints {
  int32x4_t v[4];
};
struct Bytes {
  int8x16_t v[4];
};

#define LAPIDARY_EACH_PART(type, expression)         \
  type out;                                          \
  for (int i = 0; i < 4; ++i) out.v[i] = expression; \
  return out

inline Floats load(const float* p) { LAPIDARY_EACH_PART(Floats, vld1q_f32(p + 4 * i)); }
inline void store(float* p, const Floats& x) {
  for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, x.v[i]);
}
inline Ints load_int(const std::int32_t* p) { LAPIDARY_EACH_PART(Ints, vld1q_s32(p + 4 * i)); }
inline void store_int(std::int32_t* p, const Ints& x) {
  for (int i = 0; i < 4; ++i) vst1q_s32(p + 4 * i, x.v[i]);
}
inline Floats broadcast(float x) { LAPIDARY_EACH_PART(Floats, vdupq_n_f32(x)); }
inline Ints broadcast_int(int x) { LAPIDARY_EACH_PART(Ints, vdupq_n_s32(x)); }
inline Floats add(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_PART(Floats, vaddq_f32(x.v[i], y.v[i]));
}
inline Floats sub(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_PART(Floats, vsubq_f32(x.v[i], y.v[i]));
}
inline Floats mul(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_PART(Floats, vmulq_f32(x.v[i], y.v[i]));
}
inline Floats div(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_PART(Floats, vdivq_f32(x.v[i], y.v[i]));
}
// Not fmax and fmin: where one operand is a NaN the second is the answer, as on the other ISAs.
inline Floats max(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_PART(Floats, vbslq_f32(vcgtq_f32(x.v[i], y.v[i]), x.v[i], y.v[i]));
}
inline Floats min(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_PART(Floats, vbslq_f32(vcltq_f32(x.v[i], y.v[i]), x.v[i], y.v[i]));
}
inline Floats fma(const Floats& x, const Floats& y, const Floats& z) {
  LAPIDARY_EACH_PART(Floats, vfmaq_f32(z.v[i], x.v[i], y.v[i]));
}
inline Floats absolute(const Floats& x) { LAPIDARY_EACH_PART(Floats, vabsq_f32(x.v[i])); }
inline Ints add(const Ints& x, const Ints& y) {
  LAPIDARY_EACH_PART(Ints, vaddq_s32(x.v[i], y.v[i]));
}
inline Ints sub(const Ints& x, const Ints& y) {
  LAPIDARY_EACH_PART(Ints, vsubq_s32(x.v[i], y.v[i]));
}
inline Ints mul(const Ints& x, const Ints& y) {
  LAPIDARY_EACH_PART(Ints, vmulq_s32(x.v[i], y.v[i]));
}
inline Floats to_float(const Ints& x) { LAPIDARY_EACH_PART(Floats, vcvtq_f32_s32(x.v[i])); }
inline Ints round_to_int(const Floats& x) { LAPIDARY_EACH_PART(Ints, vcvtnq_s32_f32(x.v[i])); }
inline Floats power_of_two(const Ints& n) {
  LAPIDARY_EACH_PART(Floats,
                     vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n.v[i], vdupq_n_s32(127)), 23)));
}

// Lanes i and i+8, then i+4, i+2, i+1: the order on every ISA.
inline float reduce_add(const Floats& x) {
  const float32x4_t four = vaddq_f32(vaddq_f32(x.v[0], x.v[2]), vaddq_f32(x.v[1], x.v[3]));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
inline float larger(float x, float y) { return x > y ? x : y; }
inline float reduce_max(const Floats& x) {
  float32x4_t four = x.v[0];
  for (int i = 1; i < 4; ++i) four = vbslq_f32(vcgtq_f32(four, x.v[i]), four, x.v[i]);
  return larger(larger(vgetq_lane_f32(four, 0), vgetq_lane_f32(four, 1)),
                larger(vgetq_lane_f32(four, 2), vgetq_lane_f32(four, 3)));
}

inline float16x4_t half_bits(const std::uint8_t* p) { return vreinterpret_f16_u8(vld1_u8(p)); }
inline Floats load_half(const std::uint8_t* p) {
  LAPIDARY_EACH_PART(Floats, vcvt_f32_f16(half_bits(p + 8 * i)));
}
inline Ints load_u8_rows(const std::uint8_t* p) {
  const uint8x16_t bytes = vld1q_u8(p);
  const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_u8(vget_high_u8(bytes));
  return {{vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))),
           vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(low))),
           vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))),
           vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(high)))}};
}
inline Ints load_half_scales(const std::uint8_t* p) {
  const int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(p));
  const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
  return {{vmovl_s16(vget_low_s16(low)), vmovl_s16(vget_high_s16(low)),
           vmovl_s16(vget_low_s16(high)), vmovl_s16(vget_high_s16(high))}};
}

inline int8x16_t narrow_lanes(const Ints& x) {
  return vcombine_s8(vmovn_s16(vcombine_s16(vmovn_s32(x.v[0]), vmovn_s32(x.v[1]))),
                     vmovn_s16(vcombine_s16(vmovn_s32(x.v[2]), vmovn_s32(x.v[3]))));
}
// Sums of the even lanes and of the odd ones, in lanes 0 and 1.
inline int16x4_t every_other(int16x8_t x) {
  const int16x4_t four = vadd_s16(vget_low_s16(x), vget_high_s16(x));
  return vadd_s16(four, vext_s16(four, four, 2));
}
// Stores a block's int8 and their sums, as kBlockSums says; returns the sum of all.
inline int narrow_block(const Ints& first, const Ints& second, std::int8_t* values,
                        std::int16_t* sums) {
  const int8x16_t a = narrow_lanes(first), b = narrow_lanes(second);
  vst1q_s8(values, a);
  vst1q_s8(values + 16, b);
  const int16x8_t low = vpaddlq_s8(a);
  const int32x2_t all = vreinterpret_s32_s16(every_other(vaddq_s16(low, vpaddlq_s8(b))));
  const int32x2_t half = vreinterpret_s32_s16(every_other(low));
  vst1_s16(sums, vreinterpret_s16_s32(vzip1_s32(all, half)));
  return sums[0] + sums[1];
}

inline Floats load_even_bf16(const std::uint16_t* p) {
  LAPIDARY_EACH_PART(
      Floats, vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u16(vld1q_u16(p + 8 * i)), 16)));
}
inline Floats load_odd_bf16(const std::uint16_t* p) {
  LAPIDARY_EACH_PART(Floats,
                     vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_u16(vld1q_u16(p + 8 * i)),
                                                     vdupq_n_u32(0xFFFF0000U))));
}

inline Floats load_bf16(const std::uint16_t* p) {
  LAPIDARY_EACH_PART(Floats, vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16)));
}
inline Floats load_int8(const std::int8_t* p) {
  const int8x16_t bytes = vld1q_s8(p);
  const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
  return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
           vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
           vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
           vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
}

inline constexpr int kAttentionChains = 4;
inline constexpr int kRowTile = 4;

// 16 integer accumulators of 32 registers while a block is summed.
inline constexpr int kTile = 4;
inline constexpr int kPlainPanels = 1;
inline constexpr int kPlainTokens = 4;
inline constexpr bool kFewRegisters = false;
inline constexpr int kByteBias = 0;  // sdot takes signed bytes as they are.

inline uint8x16_t bits(int8x16_t x) { return vreinterpretq_u8_s8(x); }
inline int8x16_t values(uint8x16_t x) { return vreinterpretq_s8_u8(x); }

inline Bytes load_group(const std::uint8_t* p) {
  LAPIDARY_EACH_PART(Bytes, values(vld1q_u8(p + 16 * i)));
}
inline void store_group(std::uint8_t* p, const Bytes& q) {
  for (int i = 0; i < 4; ++i) vst1q_u8(p + 16 * i, bits(q.v[i]));
}
inline Bytes nibble_low(const Bytes& q) {
  LAPIDARY_EACH_PART(Bytes, values(vandq_u8(bits(q.v[i]), vdupq_n_u8(15))));
}
inline Bytes nibble_high(const Bytes& q) {
  LAPIDARY_EACH_PART(Bytes, values(vshrq_n_u8(bits(q.v[i]), 4)));
}

inline Bytes look_up(const Bytes& q,
                     const std::uint8_t* table) {  // Every byte, 0 … 15, becomes table's.
  const int8x16_t entries = values(vld1q_u8(table));
  LAPIDARY_EACH_PART(Bytes, vqtbl1q_s8(entries, bits(q.v[i])));
}

inline int8x16_t four_words(const std::uint8_t* p, const std::uint32_t* table) {
  const std::uint32_t words[] = {table[p[0]], table[p[1]], table[p[2]], table[p[3]]};
  return vreinterpretq_s8_u32(vld1q_u32(words));
}
inline Bytes look_up_fours(const std::uint8_t* p, const std::uint32_t* table) {
  LAPIDARY_EACH_PART(Bytes, four_words(p + 4 * i, table));
}
template <int kBit>
inline Bytes negate_where(const Bytes& q, const Bytes& plane) {
  const uint8x16_t bit = vdupq_n_u8(1U << kBit);
  const auto set = [&](int i) { return values(vtstq_u8(bits(plane.v[i]), bit)); };
  LAPIDARY_EACH_PART(Bytes, vsubq_s8(veorq_s8(q.v[i], set(i)), set(i)));
}
inline Bytes spread_rows(const std::uint8_t* p) {  // Each of 16 bytes four times.
  const uint8x16_t rows = vld1q_u8(p);
  const uint8x16_t first = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
  const auto index = [&](int i) {
    return vaddq_u8(first, vdupq_n_u8(static_cast<std::uint8_t>(4 * i)));
  };
  LAPIDARY_EACH_PART(Bytes, values(vqtbl1q_u8(rows, index(i))));
}
template <int kShift>
inline uint8x16_t shift_to_four(uint8x16_t v) {  // Moves bit kShift of every byte to bit 4.
  if constexpr (kShift < 4) {
    return vshlq_n_u8(v, 4 - kShift);
  } else if constexpr (kShift > 4) {
    return vshrq_n_u8(v, kShift - 4);
  } else {
    return v;
  }
}
template <int kShift, int kMask>
inline Bytes merge_plane(const Bytes& q, const Bytes& plane) {
  LAPIDARY_EACH_PART(Bytes,
                     values(vorrq_u8(bits(q.v[i]), vandq_u8(shift_to_four<kShift>(bits(plane.v[i])),
                                                            vdupq_n_u8(kMask)))));
}

inline int8x16_t broadcast_four(const std::int8_t* p) {
  std::int32_t word;
  std::memcpy(&word, p, 4);
  return vreinterpretq_s8_s32(vdupq_n_s32(word));
}

template <int kBits>
LAPIDARY_INLINE Bytes load_weights(const Bytes& w) {
  return w;
}
LAPIDARY_INLINE Ints dot(const Ints& sum, const Bytes& w, const std::int8_t* x) {
  const int8x16_t four = broadcast_four(x);
  LAPIDARY_EACH_PART(Ints, vdotq_s32(sum.v[i], w.v[i], four));
}
LAPIDARY_INLINE Ints dot_each(const Ints& sum, const Bytes& w, const std::int8_t* x) {
  LAPIDARY_EACH_PART(Ints, vdotq_s32(sum.v[i], w.v[i], vld1q_s8(x + 16 * i)));
}
template <int kFactor>
LAPIDARY_INLINE Ints times_total(const std::int16_t* p) {
  return broadcast_int(kFactor * (p[0] + p[1]));
}

inline constexpr int kDenseTile = 4;
inline constexpr int kBfpPanels = 1;
inline constexpr int kBfpTile = 4;

LAPIDARY_INLINE void dot_pairs(Ints& sum, const Ints& w, std::int32_t x) {
  const int16x8_t pair = vreinterpretq_s16_s32(vdupq_n_s32(x));
  for (int i = 0; i < 4; ++i) {
    const int16x8_t rows = vreinterpretq_s16_s32(w.v[i]);
    const int32x4_t low = vmull_s16(vget_low_s16(rows), vget_low_s16(pair));
    const int32x4_t high = vmull_s16(vget_high_s16(rows), vget_high_s16(pair));
    sum.v[i] = vaddq_s32(sum.v[i], vpaddq_s32(low, high));
  }
}
inline void store_words(std::int16_t* p, const Ints& v) {
  for (int i = 0; i < 4; ++i) vst1_s16(p + 4 * i, vmovn_s32(v.v[i]));
}
inline Ints merge_pairs(const Ints& even, const Ints& odd) {
  LAPIDARY_EACH_PART(Ints, vsliq_n_s32(even.v[i], odd.v[i], 16));
}

inline Bytes join_nibbles(const Bytes& high, const Bytes& low) {
  LAPIDARY_EACH_PART(
      Bytes, values(veorq_u8(vsliq_n_u8(bits(low.v[i]), bits(high.v[i]), 4), vdupq_n_u8(0x80))));
}
template <int kBits, int kShift>
inline Bytes bit_field(const Bytes& q) {  // Bits kShift … kShift + kBits - 1 of every byte.
  Bytes shifted = q;
  if constexpr (kShift > 0) {
    for (int i = 0; i < 4; ++i) shifted.v[i] = values(vshrq_n_u8(bits(q.v[i]), kShift));
  }
  LAPIDARY_EACH_PART(Bytes, values(vandq_u8(bits(shifted.v[i]), vdupq_n_u8((1 << kBits) - 1))));
}
template <int kBits>
inline Bytes append_bits(const Bytes& q,
                         const Bytes& low) {  // 2^kBits · q + low, of bytes below 256.
  LAPIDARY_EACH_PART(Bytes, values(vorrq_u8(vshlq_n_u8(bits(q.v[i]), kBits), bits(low.v[i]))));
}
inline int64x2_t words(int32x4_t x) { return vreinterpretq_s64_s32(x); }
inline int8x16_t bytes(int64x2_t x) { return vreinterpretq_s8_s64(x); }
// Word p of each of sixteen rows becomes plane p, four rows at a time.
LAPIDARY_INLINE void load_low_rows(const std::uint8_t* rows, std::size_t stride, Bytes* planes) {
  for (int i = 0; i < 4; ++i, rows += 4 * stride) {
    const int32x4_t r0 = vreinterpretq_s32_u8(vld1q_u8(rows));
    const int32x4_t r1 = vreinterpretq_s32_u8(vld1q_u8(rows + stride));
    const int32x4_t r2 = vreinterpretq_s32_u8(vld1q_u8(rows + 2 * stride));
    const int32x4_t r3 = vreinterpretq_s32_u8(vld1q_u8(rows + 3 * stride));
    const int64x2_t even0 = words(vtrn1q_s32(r0, r1)), even1 = words(vtrn1q_s32(r2, r3));
    const int64x2_t odd0 = words(vtrn2q_s32(r0, r1)), odd1 = words(vtrn2q_s32(r2, r3));
    planes[0].v[i] = bytes(vtrn1q_s64(even0, even1));
    planes[1].v[i] = bytes(vtrn1q_s64(odd0, odd1));
    planes[2].v[i] = bytes(vtrn2q_s64(even0, even1));
    planes[3].v[i] = bytes(vtrn2q_s64(odd0, odd1));
  }
}

template <int kLeft>
LAPIDARY_INLINE void peak_round(int32x4_t* sums, int8x16_t w, int8x16_t x) {
  if constexpr (kLeft > 0) {
    *sums = vdotq_s32(*sums, w, x);
    asm volatile("" : "+w"(*sums), "+w"(w));  // Nothing leaves the loop.
    peak_round<kLeft - 1>(sums + 1, w, x);
  }
}

std::uint64_t int8_peak(std::uint64_t iterations) {
  int32x4_t sums[12] = {};
  for (std::uint64_t i = 0; i < iterations; ++i)
    peak_round<12>(sums, vdupq_n_s8(3), vdupq_n_s8(-2));
  return iterations * 12 * 32;
}

template <int kBits>
inline Ints shift_right(const Ints& x) {  // Of lanes that are not negative.
  LAPIDARY_EACH_PART(Ints, vshrq_n_s32(x.v[i], kBits));
}
// The lanes, which are not negative, at most 255 each.
inline void store_bytes(std::uint8_t* p, const Ints& x) {
  const uint16x8_t low = vcombine_u16(vqmovun_s32(x.v[0]), vqmovun_s32(x.v[1]));
  const uint16x8_t high = vcombine_u16(vqmovun_s32(x.v[2]), vqmovun_s32(x.v[3]));
  vst1q_u8(p, vcombine_u8(vqmovn_u16(low), vqmovn_u16(high)));
}

inline Ints mask_lanes(const Ints& x, int mask) {
  LAPIDARY_EACH_PART(Ints, vandq_s32(x.v[i], vdupq_n_s32(mask)));
}

#include "kernels/generic-inl.h"

}  // namespace

static_assert(is_known_target(LAPIDARY_TARGET));
const InstructionSet kNeon = {make_table("neon"), LAPIDARY_TARGET};

}  // namespace lapidary::kernels

#if !defined(__clang__)
LAPIDARY_LEAVE_TARGET
#endif
