// Included after blocks-inl.h. The ISA gives kTile (streams of activations that share a weight in
// registers) and block_sums<packing, streams>. A stream is a token's int8 activations; 16-bit
// activations are two, the high and the low part.

// Panels are unpacked to scratch for this many tokens; for fewer, in registers and again for each
// tile.
inline constexpr int kUnpackTokens = 2 * kTile + 1;

// Where some tokens' activations stand, block by block: token t's are t · columns (or blocks)
// further on.
struct InputCursor {
  const std::int8_t* values;
  const std::int8_t* low;
  const std::int16_t* sums;
  const std::int16_t* low_sums;
  const float* scales;
  const float* scaled_sums;
  const std::uint8_t* low_used;
  std::size_t blocks;  // Of one token.

  InputCursor(const QuantizedInput& in, int token) {
    const std::size_t block = first_block(in, token);
    blocks = first_block(in, 1);
    values = in.values + block * kBlock;
    sums = in.sums + kBlockSums * block;
    low = in.low != nullptr ? in.low + block * kBlock : nullptr;
    low_sums = in.low_sums != nullptr ? in.low_sums + kBlockSums * block : nullptr;
    scales = in.scales + block;
    scaled_sums = in.scaled_sums + block;
    low_used = in.low_used != nullptr ? in.low_used + block : nullptr;
  }
  template <bool kWide>
  LAPIDARY_INLINE void step() {
    values += kBlock;
    sums += kBlockSums;
    ++scales;
    ++scaled_sums;
    if constexpr (kWide) {
      low += kBlock;
      low_sums += kBlockSums;
      if (low_used != nullptr) ++low_used;
    }
  }
};

// The sums of one block as floats, for each token: the high part's kHighBase times, and the low
// part's.
template <Packing kPacking, int kTokens, bool kWide, class Groups>
LAPIDARY_INLINE void float_sums(const Groups& groups, const BlockScales& s, const InputCursor& x,
                                F* out) {
  constexpr int kStreams = kWide ? 2 * kTokens : kTokens;
  const std::int8_t* values[kStreams];
  const std::int16_t* sums[kStreams];
  for (int t = 0; t < kTokens; ++t) {
    const std::size_t at = static_cast<std::size_t>(t) * x.blocks;
    values[t] = x.values + at * kBlock;
    sums[t] = x.sums + at * kBlockSums;
    if constexpr (kWide) {
      values[kTokens + t] = x.low + at * kBlock;
      sums[kTokens + t] = x.low_sums + at * kBlockSums;
    }
  }
  I exact[kStreams];
  block_sums<kPacking, kStreams>(groups, s, values, sums, exact);
  for (int t = 0; t < kTokens; ++t) {
    out[t] = to_float(exact[t]);
    if constexpr (kWide)
      out[t] = fma(broadcast(static_cast<float>(kHighBase)), out[t], to_float(exact[kTokens + t]));
  }
}

// Whether a token of the tile has a low part in this block.
template <int kTokens>
LAPIDARY_INLINE bool uses_low(const InputCursor& x) {
  if (x.low_used == nullptr) return true;
  unsigned used = 0;
  for (int t = 0; t < kTokens; ++t) used |= x.low_used[static_cast<std::size_t>(t) * x.blocks];
  return used != 0;
}

template <Packing kPacking, int kTokens, bool kWide, class Blocks>
void multiply_tile(const MatmulArgs& a, const Blocks& blocks, int token, float* out) {
  InputCursor x(*a.input, a.token_begin + token);
  F acc[kTokens];
  for (int t = 0; t < kTokens; ++t) acc[t] = broadcast(0.0F);
  for (int b = 0; b < a.columns / kBlock; ++b) {
    const BlockScales s = blocks.scales(b);
    F sums[kTokens];
    if (kWide && uses_low<kTokens>(x)) {
      float_sums<kPacking, kTokens, true>(blocks.groups(b), s, x, sums);
    } else {
      float_sums<kPacking, kTokens, false>(blocks.groups(b), s, x, sums);
      if constexpr (kWide) {
        for (int t = 0; t < kTokens; ++t)
          sums[t] = mul(sums[t], broadcast(static_cast<float>(kHighBase)));
      }
    }
    leave_in_memory(acc);
    for (int t = 0; t < kTokens; ++t) {
      const std::size_t at = static_cast<std::size_t>(t) * x.blocks;
      acc[t] = fma(sums[t], mul(s.scale, broadcast(x.scales[at])), acc[t]);
      if constexpr (packed_traits(kPacking).scheme == Scheme::kAffine)
        acc[t] = fma(s.offset, broadcast(x.scaled_sums[at]), acc[t]);
    }
    x.template step<kWide>();
  }
  for (int t = 0; t < kTokens; ++t)
    store(out + static_cast<std::size_t>(token + t) * a.out_stride, acc[t]);
}

// Tokens [token, end) in tiles of kTokens, and what is left in smaller ones.
template <Packing kPacking, int kTokens, bool kWide, class Blocks>
void multiply_packed(const MatmulArgs& a, const Blocks& blocks, int token, int end, float* out) {
  for (; token + kTokens <= end; token += kTokens)
    multiply_tile<kPacking, kTokens, kWide>(a, blocks, token, out);
  if constexpr (kTokens > 1)
    multiply_packed<kPacking, kTokens / 2, kWide>(a, blocks, token, end, out);
}

// All tokens of one panel, whose blocks lie as `blocks` says.
template <Packing kPacking, bool kWide, class Blocks>
void multiply_panel(const MatmulArgs& a, const Blocks& blocks, float* out) {
  constexpr int kTokens = kWide ? kTile / 2 : kTile;
  int t = 0;
  if (a.tokens >= kUnpackTokens) {
    auto* scratch = reinterpret_cast<std::uint8_t*>(a.scratch);
    unpack_panel<kPacking>(blocks, a.columns / kBlock, scratch);
    for (; t + kTokens <= a.tokens; t += kTokens)
      multiply_tile<kPacking, kTokens, kWide>(a, PlainBlocks<kPacking>{scratch}, t, out);
  }
  multiply_packed<kPacking, kTokens, kWide>(a, blocks, t, a.tokens, out);
}

template <Packing kPacking, bool kWide>
void matmul_quantized(const MatmulArgs& a) {
  for (int p = a.panel_begin; p < a.panel_end; ++p) {
    const auto* panel = reinterpret_cast<const std::uint8_t*>(
        a.panels + static_cast<std::size_t>(p) * a.panel_bytes);
    multiply_panel<kPacking, kWide>(a, PackedBlocks<kPacking>{panel},
                                    a.out + (p - a.panel_begin) * kPanelRows);
  }
}
