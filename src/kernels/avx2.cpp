#include <immintrin.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/isa.h"
#include "kernels/pack.h"
#include "kernels/split.h"

LAPIDARY_ENTER_TARGET("avx2,fma,f16c")

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

#include "kernels/bfp-inl.h"
#include "kernels/blocks-inl.h"
#include "kernels/dense-inl.h"
#include "kernels/maddubs-inl.h"
#include "kernels/matmul-inl.h"
#include "kernels/split-inl.h"

struct PeakProduct {
  LAPIDARY_INLINE __m256i operator()(__m256i sum, __m256i w, __m256i x) const {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, x));
  }
};
std::uint64_t int8_peak(std::uint64_t iterations) { return run_peak<PeakProduct>(iterations); }

inline Ints bound_sum(Ints sum, const std::uint8_t* bounds, const std::int8_t* norms) {
  const Bytes levels = load_group(bounds);
  const __m256i four = broadcast_four(norms);
  const Ints pairs = {_mm256_maddubs_epi16(levels.a, four), _mm256_maddubs_epi16(levels.b, four)};
  return add(sum, widen(pairs, ones()));
}
template <int kField>
inline Ints pair_sum(Ints sum, const std::uint8_t* pairs, const std::int8_t* x) {
  const Bytes weights = bit_field<2, 2 * kField>(load_group(pairs));
  const Ints values = load_int(reinterpret_cast<const std::int32_t*>(x));
  const Ints products = {_mm256_maddubs_epi16(weights.a, values.a),
                         _mm256_maddubs_epi16(weights.b, values.b)};
  return add(sum, widen(products, ones()));
}

#include "kernels/resample-inl.h"
#include "kernels/screen-inl.h"
#include "kernels/table-inl.h"

}  // namespace

const Kernels kAvx2Kernels = make_table("avx2");

}  // namespace lapidary::kernels

LAPIDARY_LEAVE_TARGET
