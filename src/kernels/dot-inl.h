// Included before matmul-inl.h in ISAs whose integer dot products add four products to 32 bits. The
// ISA gives kByteBias (what load_weights adds to 8-bit weights), load_weights<bits>(Q) and
// dot(I sum, Q weights, four activations).

template <int kBits, int kGroup, int kEnd, int kStreams, class Groups>
LAPIDARY_INLINE void add_groups(const Groups& groups, const std::int8_t* const* x, I* out) {
  if constexpr (kGroup < kEnd) {
    const Q w = load_weights<kBits>(groups.template get<kGroup>());
    for (int s = 0; s < kStreams; ++s) out[s] = dot(out[s], w, x[s] + 4 * kGroup);
    add_groups<kBits, kGroup + 1, kEnd, kStreams>(groups, x, out);
  }
}

// Exact integer sums of one block for some streams of activations, bias and half scales applied.
template <Packing kPacking, int kStreams, class Groups>
LAPIDARY_INLINE void block_sums(const Groups& groups, const BlockScales& scales,
                                const std::int8_t* const* x, const std::int16_t* const* sums,
                                I* out) {
  constexpr PackedTraits kTraits = packed_traits(kPacking);
  constexpr int kBias = kTraits.bits == 8 ? kByteBias : kTraits.bias;
  if constexpr (kTraits.scheme == Scheme::kHalfScaled) {
    I second[kStreams];
    for (int s = 0; s < kStreams; ++s) {
      const int first_sum = sums[s][2] + sums[s][3];
      out[s] = broadcast_int(-kBias * first_sum);
      second[s] = broadcast_int(-kBias * (sums[s][0] + sums[s][1] - first_sum));
    }
    add_groups<kTraits.bits, 0, 4, kStreams>(groups, x, out);
    add_groups<kTraits.bits, 4, 8, kStreams>(groups, x, second);
    for (int s = 0; s < kStreams; ++s)
      out[s] = add(mul(out[s], scales.half0), mul(second[s], scales.half1));
  } else {
    for (int s = 0; s < kStreams; ++s)
      out[s] = broadcast_int(kBias != 0 ? -kBias * (sums[s][0] + sums[s][1]) : 0);
    add_groups<kTraits.bits, 0, 8, kStreams>(groups, x, out);
  }
}

// Accumulators stay in registers: there are enough.
template <int kTokens>
LAPIDARY_INLINE void leave_in_memory(F (&)[kTokens]) {}
