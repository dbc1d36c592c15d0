// Included by the x86 ISAs before float-inl.h.

// Stores a block's first and second sixteen int8 and their sums, as kBlockSums says; returns the
// sum of all.
inline int store_narrow(__m128i first, __m128i second, std::int8_t* values, std::int16_t* sums) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(values), first);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(values + 16), second);
  // Pairs of neighbours in 16 bits; every other lane is the pair where k mod 4 is 0 or 1.
  const __m128i low = _mm_maddubs_epi16(_mm_set1_epi8(1), first);
  const __m128i all = _mm_add_epi16(low, _mm_maddubs_epi16(_mm_set1_epi8(1), second));
  __m128i both = _mm_add_epi16(_mm_unpacklo_epi64(all, low), _mm_unpackhi_epi64(all, low));
  both = _mm_add_epi16(both, _mm_srli_epi64(both, 32));
  both = _mm_shuffle_epi32(both, 0x08);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(sums), both);
  return sums[0] + sums[1];
}
