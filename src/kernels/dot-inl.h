// Sums of blocks on ISAs whose integer dot products add four products to 32 bits; and those of the
// screened head.
#pragma once

#include "kernels/blocks-inl.h"

template <int kBits, int kGroup, int kEnd, int kPanels, int kStreams, class Groups>
LAPIDARY_INLINE void add_groups(const Groups* groups, const std::int8_t* const* x, Ints* out) {
  if constexpr (kGroup < kEnd) {
    Bytes w[kPanels];
    for (int p = 0; p < kPanels; ++p) w[p] = load_weights<kBits>(groups[p].template get<kGroup>());
    for (int s = 0; s < kStreams; ++s) {
      for (int p = 0; p < kPanels; ++p) {
        Ints& sum = out[p * kStreams + s];
        sum = dot(sum, w[p], x[s] + 4 * kGroup);
      }
    }
    add_groups<kBits, kGroup + 1, kEnd, kPanels, kStreams>(groups, x, out);
  }
}

// What a block comes to, with half scales applied. Those are applied in floats, where a product of
// 32 bits is slow: each of the two products is below 2^24, so what is rounded is their exact sum,
// as where it is an integer.
template <Packing kPacking>
using BlockSum =
    std::conditional_t<packed_traits(kPacking).scheme == Scheme::kHalfScaled, Floats,
                       std::conditional_t<packed_traits(kPacking).scheme == Scheme::kHalfAffine,
                                          AffineSum<Floats>, Ints>>;
LAPIDARY_INLINE Floats to_float(Floats sum) { return sum; }

// Exact sums of one block of some panels for some streams of activations, out [panels][streams];
// bias and half scales applied.
template <Packing kPacking, int kPanels, int kStreams, class Groups, class Sum>
LAPIDARY_INLINE void block_sums(const Groups* groups, const BlockScales* scales,
                                const std::int8_t* const* x, const std::int16_t* const* sums,
                                Sum* out) {
  static_assert(std::is_same_v<Sum, BlockSum<kPacking>>);
  constexpr PackedTraits kTraits = packed_traits(kPacking);
  constexpr int kBias = kTraits.takes_bytes() ? kByteBias : kTraits.bias();
  constexpr int kStep = kTraits.step;
  const auto start = [&](Ints* to, int s, const Ints& less_bias) {
    for (int p = 0; p < kPanels; ++p)
      to[p * kStreams + s] = kStep == 1 ? less_bias : broadcast_int(0);
  };
  const auto finish = [&](const Ints& exact, const Ints& less_bias) {
    if constexpr (kStep == 1) return exact;
    return add(mul(exact, broadcast_int(kStep)), less_bias);
  };
  constexpr bool kAffine = kTraits.scheme == Scheme::kHalfAffine;
  if constexpr (kTraits.has_half_scales()) {
    Ints first[kPanels * kStreams], second[kPanels * kStreams];
    const auto less_first = [&](int s) { return times_total<-kBias>(sums[s] + 2); };
    const auto less_second = [&](int s) {
      return sub(times_total<-kBias>(sums[s]), less_first(s));
    };
    for (int s = 0; s < kStreams; ++s) {
      start(first, s, less_first(s));
      start(second, s, less_second(s));
    }
    add_groups<kTraits.group_bits(), 0, 4, kPanels, kStreams>(groups, x, first);
    add_groups<kTraits.group_bits(), 4, 8, kPanels, kStreams>(groups, x, second);
    for (int i = 0; i < kPanels * kStreams; ++i) {
      const BlockScales& s = scales[i / kStreams];
      const int stream = i % kStreams;
      const Floats sum =
          fma(to_float(finish(second[i], less_second(stream))), to_float(s.half1),
              mul(to_float(finish(first[i], less_first(stream))), to_float(s.half0)));
      if constexpr (kAffine) {
        const Ints of_first = times_total<1>(sums[stream] + 2);
        const Ints of_second = sub(times_total<1>(sums[stream]), of_first);
        out[i] = {sum, fma(to_float(of_second), to_float(s.minimum1),
                           mul(to_float(of_first), to_float(s.minimum0)))};
      } else {
        out[i] = sum;
      }
    }
  } else {
    for (int s = 0; s < kStreams; ++s)
      start(out, s, kBias != 0 ? times_total<-kBias>(sums[s]) : broadcast_int(0));
    add_groups<kTraits.group_bits(), 0, 8, kPanels, kStreams>(groups, x, out);
  }
}

// 64 bytes of bounds (16 rows × 4 blocks) times four norms.
inline Ints bound_sum(const Ints& sum, const std::uint8_t* bounds, const std::int8_t* norms) {
  return dot(sum, load_group(bounds), norms);
}
// Bits 2 kField and 2 kField + 1 of 64 bytes times 64 bytes of x, four for each lane.
template <int kField>
inline Ints two_bit_sum(const Ints& sum, const std::uint8_t* bits, const std::int8_t* x) {
  return dot_each(sum, bit_field<2, 2 * kField>(load_group(bits)), x);
}
