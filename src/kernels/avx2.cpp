#include <immintrin.h>

#include "kernels/isa.h"

#define LAPIDARY_BYTE_PRODUCTS 2
#define LAPIDARY_TARGET "avx2,fma,f16c"
LAPIDARY_ENTER_TARGET(LAPIDARY_TARGET)

namespace lapidary::kernels {
namespace {

#include "kernels/lanes-avx2-inl.h"

// Of 16 registers: 8 integer accumulators, 2 weights and 2 products.
inline constexpr int kTile = 4;
inline constexpr int kPlainPanels = 1;
inline constexpr int kPlainTokens = 4;
inline constexpr bool kFewRegisters = true;
inline constexpr int kByteBias = 0;  // Signed bytes go in as magnitude and sign.

// Each of 16 int8 scales twice, in both 16-bit halves of its lane: what vpmaddwd multiplies by.
inline Ints load_half_scales(const std::uint8_t* p) {
  const __m128i rows = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi8_epi16(_mm_unpacklo_epi8(rows, rows)),
          _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(rows, rows))};
}

// As text: two products before their two additions keep the multipliers busier (by a tenth) than
// the orders that compilers choose, and the sum stays a chain, for which there are registers.
LAPIDARY_INLINE void add_products(Ints& sum, const Bytes& w, const std::int8_t* x) {
  __m256i a, b;
  asm volatile(
      "vpbroadcastd %[x], %[b]\n\t"
      "vpmaddubsw %[b], %[w0], %[a]\n\t"
      "vpmaddubsw %[b], %[w1], %[b]\n\t"
      "vpaddw %[a], %[s0], %[s0]\n\t"
      "vpaddw %[b], %[s1], %[s1]"
      : [s0] "+x"(sum.a), [s1] "+x"(sum.b), [a] "=&x"(a), [b] "=&x"(b)
      : [w0] "x"(w.a), [w1] "x"(w.b), [x] "m"(*reinterpret_cast<const char(*)[4]>(x)));
}
LAPIDARY_INLINE void first_products(Ints& sum, const Bytes& w, const std::int8_t* x) {
  asm volatile(
      "vpbroadcastd %[x], %[s1]\n\t"
      "vpmaddubsw %[s1], %[w0], %[s0]\n\t"
      "vpmaddubsw %[s1], %[w1], %[s1]"
      : [s0] "=&x"(sum.a), [s1] "=&x"(sum.b)
      : [w0] "x"(w.a), [w1] "x"(w.b), [x] "m"(*reinterpret_cast<const char(*)[4]>(x)));
}

LAPIDARY_INLINE Ints products_each(const Bytes& w, const std::int8_t* x) {
  const Ints values = load_int(reinterpret_cast<const std::int32_t*>(x));
  return {_mm256_maddubs_epi16(w.a, values.a), _mm256_maddubs_epi16(w.b, values.b)};
}
LAPIDARY_INLINE Bytes magnitudes(const Bytes& w) {
  return {_mm256_abs_epi8(w.a), _mm256_abs_epi8(w.b)};
}
LAPIDARY_INLINE Ints signed_products(const Bytes& magnitude, const Bytes& w, const std::int8_t* x) {
  const __m256i four = broadcast_four(x);
  return {_mm256_maddubs_epi16(magnitude.a, _mm256_sign_epi8(four, w.a)),
          _mm256_maddubs_epi16(magnitude.b, _mm256_sign_epi8(four, w.b))};
}

LAPIDARY_INLINE Ints broadcast_words(const std::int16_t* p) {
  const __m256i two = broadcast_four(reinterpret_cast<const std::int8_t*>(p));
  return {two, two};
}
LAPIDARY_INLINE Ints sub_words(const Ints& x, const Ints& y) {
  return {_mm256_sub_epi16(x.a, y.a), _mm256_sub_epi16(x.b, y.b)};
}
template <int kFactor>
LAPIDARY_INLINE Ints times(const Ints& words) {
  const __m256i factor = _mm256_set1_epi16(kFactor);
  return {_mm256_mullo_epi16(words.a, factor), _mm256_mullo_epi16(words.b, factor)};
}
LAPIDARY_INLINE Ints widen(const Ints& x, const Ints& scales) {
  return {_mm256_madd_epi16(x.a, scales.a), _mm256_madd_epi16(x.b, scales.b)};
}
LAPIDARY_INLINE void keep_chain(Ints& sum) { asm("" : "+x"(sum.a), "+x"(sum.b)); }

struct PeakProduct {
  LAPIDARY_INLINE __m256i operator()(__m256i sum, __m256i w, __m256i x) const {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, x));
  }
};
std::uint64_t int8_peak(std::uint64_t iterations) { return run_peak<PeakProduct>(iterations); }

#include "kernels/generic-inl.h"

}  // namespace

static_assert(is_known_target(LAPIDARY_TARGET));
const InstructionSet kAvx2 = {make_table("avx2"), LAPIDARY_TARGET};

}  // namespace lapidary::kernels

LAPIDARY_LEAVE_TARGET
