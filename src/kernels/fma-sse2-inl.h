// A fused multiply-add of floats for processors without one, in doubles: exact, as kernels need it.
//
// The product of two floats is a double. Its sum with the third is not always one; rounded to odd
// (to the neighbour with an odd mantissa where it is inexact) and then to a float, it is rounded as
// if once, since a double has more than two bits beyond a float's (S. Boldo, G. Melquiond:
// Emulation of FMA and Correctly Rounded Sums, IEEE Transactions on Computers 57, 2008). Floats'
// products and sums are far from the ends of a double's exponents, so subnormal and overflowing
// results are right too, and so are flags that flush the former to zero, for the last step is an
// instruction of floats. Infinities and NaNs come out as they should; a NaN's payload may be
// another than an FMA's.
#pragma once

#include <immintrin.h>

#include "kernels/isa.h"

// x + y, rounded to odd.
LAPIDARY_INLINE __m128d add_to_odd(__m128d x, __m128d y) {
  const __m128d sum = _mm_add_pd(x, y);
  // What the rounded sum lacks, exactly (Knuth's TwoSum); a NaN where it is infinite.
  const __m128d of_y = _mm_sub_pd(sum, x);
  const __m128d rest = _mm_add_pd(_mm_sub_pd(x, _mm_sub_pd(sum, of_y)), _mm_sub_pd(y, of_y));
  const __m128d sign = _mm_set1_pd(-0.0);
  const __m128d inexact = _mm_cmpgt_pd(_mm_andnot_pd(sign, rest), _mm_setzero_pd());
  // Rounded away from zero where the rest's sign is the other: one less is what it truncates to. An
  // odd neighbour is the truncated sum with its last bit set.
  const __m128i away =
      _mm_srli_epi64(_mm_castpd_si128(_mm_and_pd(_mm_xor_pd(sum, rest), inexact)), 63);
  const __m128i last = _mm_srli_epi64(_mm_castpd_si128(inexact), 63);
  return _mm_castsi128_pd(_mm_or_si128(_mm_sub_epi64(_mm_castpd_si128(sum), away), last));
}

// x y + z, four floats, rounded to doubles and then to floats, in half as many instructions. The
// second rounding errs only where the first has reached a number halfway between two floats: one
// whose bits behind a float's last are 100…0; or, where floats lie less densely, anywhere between
// zero and the least normal float. There, lanes of `doubtful` become all ones.
LAPIDARY_INLINE __m128 multiply_add_twice(__m128 x, __m128 y, __m128 z, __m128i& doubtful) {
  const __m128d low = _mm_add_pd(_mm_mul_pd(_mm_cvtps_pd(x), _mm_cvtps_pd(y)), _mm_cvtps_pd(z));
  const __m128d high =
      _mm_add_pd(_mm_mul_pd(_mm_cvtps_pd(_mm_movehl_ps(x, x)), _mm_cvtps_pd(_mm_movehl_ps(y, y))),
                 _mm_cvtps_pd(_mm_movehl_ps(z, z)));
  const __m128 sum = _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
  const __m128i last_bits =
      _mm_castps_si128(_mm_shuffle_ps(_mm_castpd_ps(low), _mm_castpd_ps(high), 0x88));
  const __m128i halfway = _mm_cmpeq_epi32(_mm_slli_epi32(last_bits, 3), _mm_set1_epi32(1 << 31));
  // Of the upper halves without their signs, those of 0 < |sum| < 2^-126: one less is, unsigned,
  // less than that of 2^-126 less one. The instruction compares signed numbers.
  const __m128i size =
      _mm_and_si128(_mm_castps_si128(_mm_shuffle_ps(_mm_castpd_ps(low), _mm_castpd_ps(high), 0xDD)),
                    _mm_set1_epi32(0x7FFFFFFF));
  constexpr int kLess = (897 << 20) - 1 - 0x7FFFFFFF - 1;
  const __m128i small =
      _mm_cmplt_epi32(_mm_add_epi32(size, _mm_set1_epi32(0x7FFFFFFF)), _mm_set1_epi32(kLess));
  doubtful = _mm_or_si128(halfway, small);
  return sum;
}

// x y + z, four floats, rounded once.
LAPIDARY_INLINE __m128 multiply_add(__m128 x, __m128 y, __m128 z) {
  const __m128d low = _mm_mul_pd(_mm_cvtps_pd(x), _mm_cvtps_pd(y));
  const __m128d high =
      _mm_mul_pd(_mm_cvtps_pd(_mm_movehl_ps(x, x)), _mm_cvtps_pd(_mm_movehl_ps(y, y)));
  return _mm_movelh_ps(_mm_cvtpd_ps(add_to_odd(low, _mm_cvtps_pd(z))),
                       _mm_cvtpd_ps(add_to_odd(high, _mm_cvtps_pd(_mm_movehl_ps(z, z)))));
}
