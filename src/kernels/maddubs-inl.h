// Included before matmul-inl.h by AVX2, whose vpmaddubsw adds two products in 16 bits: of unsigned
// weights (0 … 2^bits - 1) and activations of at most ±127. The sums stay in 16 bits as long as
// they fit. vpaddw wraps, so only the last of a chain has to: what is added first is -bias ·
// activations, and then it is the sum of (weight - bias) · activation that must be below 2^15. Each
// of the two 16-bit sums of a row takes two values of a group:
//
//   Q4_0  8·127·16 = 16,256       Q4_1, Q4_K  15·127·16 = 30,480      a block at a time
//   Q5_0  16·127·16 = 32,512                                          a block
//   Q5_1, Q5_K  31·127·8 = 31,496   Q6_K  32·127·8 = 32,512           half a block
//   Q6Top  15·127·8 = 15,240, multiplied by the step later, and the bias apart
//   Q8_0  128·127·2 = 32,512, weights going in as magnitude and sign  a group

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

template <bool kStarted, int kGroup, int kEnd, int kStreams, class Groups>
LAPIDARY_INLINE void add_narrow(const Groups& groups, const std::int8_t* const* x, Ints* sums) {
  if constexpr (kGroup < kEnd) {
    const Bytes w = groups.template get<kGroup>();
    for (int s = 0; s < kStreams; ++s) {
      if constexpr (kStarted) {
        add_products(sums[s], w, x[s] + 4 * kGroup);
      } else {
        first_products(sums[s], w, x[s] + 4 * kGroup);
      }
    }
    add_narrow<true, kGroup + 1, kEnd, kStreams>(groups, x, sums);
  }
}

// Two 16-bit sums of activations, for every row.
LAPIDARY_INLINE __m256i broadcast_sums(const std::int16_t* p) {
  return broadcast_four(reinterpret_cast<const std::int8_t*>(p));
}
// The same of one half of a block.
template <int kHalf>
LAPIDARY_INLINE __m256i broadcast_half_sums(const std::int16_t* sums) {
  const __m256i first = broadcast_sums(sums + 2);
  if constexpr (kHalf == 0) return first;
  return _mm256_sub_epi16(broadcast_sums(sums), first);
}
template <int kBias>
LAPIDARY_INLINE Ints minus_bias(__m256i sums) {
  const __m256i start = _mm256_mullo_epi16(sums, _mm256_set1_epi16(-kBias));
  return {start, start};
}

// Adds the two 16-bit sums of each row, each times its half of `scales`.
LAPIDARY_INLINE Ints widen(const Ints& x, const Ints& scales) {
  return {_mm256_madd_epi16(x.a, scales.a), _mm256_madd_epi16(x.b, scales.b)};
}
LAPIDARY_INLINE Ints ones() { return {_mm256_set1_epi16(1), _mm256_set1_epi16(1)}; }

template <int kFactor>
LAPIDARY_INLINE Ints times(const Ints& words) {
  const __m256i factor = _mm256_set1_epi16(kFactor);
  return {_mm256_mullo_epi16(words.a, factor), _mm256_mullo_epi16(words.b, factor)};
}

// Half of a block whose step is not 1: its sums times the step, less the bias times those of the
// activations, all times its half scales.
template <Packing kPacking, int kHalf, int kStreams, class Groups>
LAPIDARY_INLINE void add_stepped(const Groups& groups, const Ints& scales,
                                 const std::int8_t* const* x, const std::int16_t* const* sums,
                                 Ints* out) {
  constexpr PackedTraits kTraits = packed_traits(kPacking);
  const Ints steps = times<kTraits.step>(scales), biases = times<-kTraits.bias()>(scales);
  Ints narrow[kStreams];
  add_narrow<false, 4 * kHalf, 4 * kHalf + 4, kStreams>(groups, x, narrow);
  for (int s = 0; s < kStreams; ++s) {
    const __m256i of_half = broadcast_half_sums<kHalf>(sums[s]);
    const Ints sum = add(widen(narrow[s], steps), widen({of_half, of_half}, biases));
    out[s] = kHalf == 0 ? sum : add(out[s], sum);
  }
}

template <int kGroup, int kStreams, class Groups>
LAPIDARY_INLINE void add_signed(const Groups& groups, const std::int8_t* const* x, Ints* out) {
  if constexpr (kGroup < 8) {
    const Bytes w = groups.template get<kGroup>();
    const Bytes magnitude = {_mm256_abs_epi8(w.a), _mm256_abs_epi8(w.b)};
    for (int s = 0; s < kStreams; ++s) {
      const __m256i four = broadcast_four(x[s] + 4 * kGroup);
      const Ints products = {_mm256_maddubs_epi16(magnitude.a, _mm256_sign_epi8(four, w.a)),
                             _mm256_maddubs_epi16(magnitude.b, _mm256_sign_epi8(four, w.b))};
      out[s] = kGroup == 0 ? widen(products, ones()) : add(out[s], widen(products, ones()));
      asm("" : "+x"(out[s].a), "+x"(out[s].b));  // Keeps the sum a chain.
    }
    add_signed<kGroup + 1, kStreams>(groups, x, out);
  }
}

template <Packing kPacking>
using BlockSum = Ints;

// Exact integer sums of one block of one panel for some streams of activations, bias and half
// scales applied.
template <Packing kPacking, int kPanels, int kStreams, class Groups>
LAPIDARY_INLINE void block_sums(const Groups* panels, const BlockScales* panel_scales,
                                const std::int8_t* const* x, const std::int16_t* const* sums,
                                Ints* out) {
  static_assert(kPanels == 1);
  const Groups& groups = *panels;
  const BlockScales& scales = *panel_scales;
  constexpr PackedTraits kTraits = packed_traits(kPacking);
  constexpr bool kBiased = kTraits.bias() != 0;
  Ints narrow[kStreams];
  if constexpr (kTraits.takes_bytes()) {
    add_signed<0, kStreams>(groups, x, out);
  } else if constexpr (kTraits.step != 1) {
    add_stepped<kPacking, 0, kStreams>(groups, scales.half0, x, sums, out);
    add_stepped<kPacking, 1, kStreams>(groups, scales.half1, x, sums, out);
  } else if constexpr (kTraits.scheme == Scheme::kHalfScaled) {
    for (int s = 0; s < kStreams; ++s)
      narrow[s] = minus_bias<kTraits.bias()>(broadcast_half_sums<0>(sums[s]));
    add_narrow<true, 0, 4, kStreams>(groups, x, narrow);
    for (int s = 0; s < kStreams; ++s) {
      out[s] = widen(narrow[s], scales.half0);
      narrow[s] = minus_bias<kTraits.bias()>(broadcast_half_sums<1>(sums[s]));
    }
    add_narrow<true, 4, 8, kStreams>(groups, x, narrow);
    for (int s = 0; s < kStreams; ++s) out[s] = add(out[s], widen(narrow[s], scales.half1));
  } else if constexpr (kTraits.bits() == 4 || kBiased) {
    if constexpr (kBiased) {
      for (int s = 0; s < kStreams; ++s)
        narrow[s] = minus_bias<kTraits.bias()>(broadcast_sums(sums[s]));
    }
    add_narrow<kBiased, 0, 8, kStreams>(groups, x, narrow);
    for (int s = 0; s < kStreams; ++s) out[s] = widen(narrow[s], ones());
  } else {
    add_narrow<false, 0, 4, kStreams>(groups, x, narrow);
    for (int s = 0; s < kStreams; ++s) out[s] = widen(narrow[s], ones());
    add_narrow<false, 4, 8, kStreams>(groups, x, narrow);
    for (int s = 0; s < kStreams; ++s) out[s] = add(out[s], widen(narrow[s], ones()));
  }
}
