#if defined(__GNUC__) && !defined(__clang__)  // GCC 12 warns of its own _mm512_undefined_*().
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include "kernels/isa.h"

#define LAPIDARY_BYTE_PRODUCTS 4
#define LAPIDARY_TARGET "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c"
LAPIDARY_ENTER_TARGET(LAPIDARY_TARGET)

namespace lapidary::kernels {
namespace {

// As text: GCC 12 copies every sum of a loop twice around the intrinsic.
LAPIDARY_INLINE void add_word_products(__m512i& sum, const __m512i& w, const __m512i& x) {
  asm("vpdpwssd %[x], %[w], %[sum]" : [sum] "+v"(sum) : [w] "v"(w), [x] "v"(x));
}

#include "kernels/lanes-avx512-inl.h"

template <int kLeft>
LAPIDARY_INLINE void peak_round(__m512i* sums, __m512i w, __m512i x) {
  if constexpr (kLeft > 0) {
    *sums = _mm512_dpbusd_epi32(*sums, w, x);
    asm volatile("" : "+v"(*sums), "+v"(w));  // Nothing leaves the loop.
    peak_round<kLeft - 1>(sums + 1, w, x);
  }
}

std::uint64_t int8_peak(std::uint64_t iterations) {
  __m512i sums[12] = {};
  for (std::uint64_t i = 0; i < iterations; ++i)
    peak_round<12>(sums, _mm512_set1_epi8(3), _mm512_set1_epi8(-2));
  return iterations * 12 * 128;
}

#include "kernels/generic-inl.h"

}  // namespace

static_assert(is_known_target(LAPIDARY_TARGET));
const InstructionSet kAvx512 = {make_table("avx512"), LAPIDARY_TARGET};

}  // namespace lapidary::kernels

LAPIDARY_LEAVE_TARGET
