// Sums of blocks on ISAs whose pmaddubsw adds two products in 16 bits: of unsigned weights (0 …
// 2^bits - 1) and activations of at most ±127. The sums stay in 16 bits as long as they fit. paddw
// wraps, so only the last of a chain has to: what is added first is -bias · activations, and then
// it is the sum of (weight - bias) · activation that must be below 2^15. Each of the two 16-bit
// sums of a row takes two values of a group:
//
//   Q4_0  8·127·16 = 16,256       Q4_1, Q4_K  15·127·16 = 30,480      a block at a time
//   Q5_0  16·127·16 = 32,512                                          a block
//   Q5_1, Q5_K  31·127·8 = 31,496   Q6_K  32·127·8 = 32,512           half a block
//   Q6Top  15·127·8 = 15,240, multiplied by the step later, and the bias apart
//   of 2 and 3 bits  7·127·16 = 14,224                                a block
//   Q8_0, codes  128·127·2 = 32,512, weights going in as magnitude and sign  a group
#pragma once

#include "kernels/blocks-inl.h"

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

// Two 16-bit sums of activations, of one half of a block, for every row.
template <int kHalf>
LAPIDARY_INLINE Ints broadcast_half_sums(const std::int16_t* sums) {
  const Ints first = broadcast_words(sums + 2);
  if constexpr (kHalf == 0) return first;
  return sub_words(broadcast_words(sums), first);
}
LAPIDARY_INLINE Ints ones() { return broadcast_int(0x00010001); }  // Words.

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
    const Ints of_half = broadcast_half_sums<kHalf>(sums[s]);
    const Ints sum = add(widen(narrow[s], steps), widen(of_half, biases));
    out[s] = kHalf == 0 ? sum : add(out[s], sum);
  }
}

// `first` and `second`: what the products of both halves are multiplied by.
template <int kGroup, int kStreams, class Groups>
LAPIDARY_INLINE void add_signed(const Groups& groups, const Ints& first, const Ints& second,
                                const std::int8_t* const* x, Ints* out) {
  if constexpr (kGroup < 8) {
    const Bytes w = groups.template get<kGroup>();
    const Bytes magnitude = magnitudes(w);
    const Ints& times = kGroup < 4 ? first : second;
    for (int s = 0; s < kStreams; ++s) {
      const Ints sum = widen(signed_products(magnitude, w, x[s] + 4 * kGroup), times);
      out[s] = kGroup == 0 ? sum : add(out[s], sum);
      keep_chain(out[s]);
    }
    add_signed<kGroup + 1, kStreams>(groups, first, second, x, out);
  }
}

template <Packing kPacking>
using BlockSum = std::conditional_t<packed_traits(kPacking).scheme == Scheme::kHalfAffine,
                                    AffineSum<Ints>, Ints>;

// Exact integer sums of one block of one panel for some streams of activations, bias and half
// scales applied.
template <Packing kPacking, int kPanels, int kStreams, class Groups, class Sum>
LAPIDARY_INLINE void block_sums(const Groups* panels, const BlockScales* panel_scales,
                                const std::int8_t* const* x, const std::int16_t* const* sums,
                                Sum* out) {
  static_assert(kPanels == 1 && std::is_same_v<Sum, BlockSum<kPacking>>);
  const Groups& groups = *panels;
  const BlockScales& scales = *panel_scales;
  constexpr PackedTraits kTraits = packed_traits(kPacking);
  constexpr bool kBiased = kTraits.bias() != 0;
  Ints narrow[kStreams];
  if constexpr (kTraits.takes_bytes() && kTraits.scheme == Scheme::kHalfScaled) {
    add_signed<0, kStreams>(groups, scales.half0, scales.half1, x, out);
  } else if constexpr (kTraits.takes_bytes()) {
    add_signed<0, kStreams>(groups, ones(), ones(), x, out);
  } else if constexpr (kTraits.scheme == Scheme::kHalfAffine) {
    add_narrow<false, 0, 4, kStreams>(groups, x, narrow);
    for (int s = 0; s < kStreams; ++s) out[s].values = widen(narrow[s], scales.half0);
    add_narrow<false, 4, 8, kStreams>(groups, x, narrow);
    for (int s = 0; s < kStreams; ++s) {
      out[s].values = add(out[s].values, widen(narrow[s], scales.half1));
      out[s].minimums = add(widen(broadcast_half_sums<0>(sums[s]), scales.minimum0),
                            widen(broadcast_half_sums<1>(sums[s]), scales.minimum1));
    }
  } else if constexpr (kTraits.step != 1) {
    add_stepped<kPacking, 0, kStreams>(groups, scales.half0, x, sums, out);
    add_stepped<kPacking, 1, kStreams>(groups, scales.half1, x, sums, out);
  } else if constexpr (kTraits.scheme == Scheme::kHalfScaled) {
    for (int s = 0; s < kStreams; ++s)
      narrow[s] = times<-kTraits.bias()>(broadcast_half_sums<0>(sums[s]));
    add_narrow<true, 0, 4, kStreams>(groups, x, narrow);
    for (int s = 0; s < kStreams; ++s) {
      out[s] = widen(narrow[s], scales.half0);
      narrow[s] = times<-kTraits.bias()>(broadcast_half_sums<1>(sums[s]));
    }
    add_narrow<true, 4, 8, kStreams>(groups, x, narrow);
    for (int s = 0; s < kStreams; ++s) out[s] = add(out[s], widen(narrow[s], scales.half1));
  } else if constexpr (kTraits.bits() == 4 || kBiased) {
    if constexpr (kBiased) {
      for (int s = 0; s < kStreams; ++s)
        narrow[s] = times<-kTraits.bias()>(broadcast_words(sums[s]));
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

// The screened head's sums: 64 bytes of bounds (16 rows × 4 blocks) times four norms.
inline Ints bound_sum(const Ints& sum, const std::uint8_t* bounds, const std::int8_t* norms) {
  Ints products;
  first_products(products, load_group(bounds), norms);
  return add(sum, widen(products, ones()));
}
// Bits 2 kField and 2 kField + 1 of 64 bytes times 64 bytes of x, four for each lane.
template <int kField>
inline Ints two_bit_sum(const Ints& sum, const std::uint8_t* bits, const std::int8_t* x) {
  const Bytes weights = bit_field<2, 2 * kField>(load_group(bits));
  return add(sum, widen(products_each(weights, x), ones()));
}
