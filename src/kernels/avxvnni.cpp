#include <immintrin.h>

#include "kernels/isa.h"

#define LAPIDARY_BYTE_PRODUCTS 4
#define LAPIDARY_TARGET "avx2,fma,f16c,avxvnni"
LAPIDARY_ENTER_TARGET(LAPIDARY_TARGET)

namespace lapidary::kernels {
namespace {

#include "kernels/lanes-avx2-inl.h"

// Of 16 registers: 8 integer accumulators, 2 weights and an activation; more are not faster.
inline constexpr int kTile = 4;
inline constexpr int kPlainPanels = 1;
inline constexpr int kPlainTokens = 4;
inline constexpr bool kFewRegisters = true;
inline constexpr int kByteBias =
    128;  // vpdpbusd takes its first operand as unsigned: int8 weights go in with 128 added.

inline Ints load_half_scales(const std::uint8_t* p) {
  return {_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8)))};
}

// 8-bit weights plus kByteBias. The sums are exact: 255 · 127 · 32 is far below 2^31.
template <int kBits>
LAPIDARY_INLINE Bytes load_weights(Bytes w) {
  if constexpr (kBits == 8) {
    const __m256i sign = _mm256_set1_epi8(-128);
    w = {_mm256_xor_si256(w.a, sign), _mm256_xor_si256(w.b, sign)};
  }
  return w;
}
LAPIDARY_INLINE Ints dot(Ints sum, Bytes w, const std::int8_t* x) {
  const __m256i four = broadcast_four(x);
  return {_mm256_dpbusd_avx_epi32(sum.a, w.a, four), _mm256_dpbusd_avx_epi32(sum.b, w.b, four)};
}
LAPIDARY_INLINE Ints dot_each(const Ints& sum, const Bytes& w, const std::int8_t* x) {
  const Ints values = load_int(reinterpret_cast<const std::int32_t*>(x));
  return {_mm256_dpbusd_avx_epi32(sum.a, w.a, values.a),
          _mm256_dpbusd_avx_epi32(sum.b, w.b, values.b)};
}
template <int kFactor>
LAPIDARY_INLINE Ints times_total(const std::int16_t* p) {
  const __m256i two = broadcast_four(reinterpret_cast<const std::int8_t*>(p));
  const __m256i total = _mm256_madd_epi16(two, _mm256_set1_epi16(kFactor));
  return {total, total};
}

struct PeakProduct {
  LAPIDARY_INLINE __m256i operator()(__m256i sum, __m256i w, __m256i x) const {
    return _mm256_dpbusd_avx_epi32(sum, w, x);
  }
};
std::uint64_t int8_peak(std::uint64_t iterations) { return run_peak<PeakProduct>(iterations); }

#include "kernels/generic-inl.h"

}  // namespace

static_assert(is_known_target(LAPIDARY_TARGET));
const InstructionSet kAvxVnni = {make_table("avxvnni"), LAPIDARY_TARGET};

}  // namespace lapidary::kernels

LAPIDARY_LEAVE_TARGET
