// Included after blocks-inl.h. A stream is a token's int8 activations; 16-bit activations are two,
// the high and the low part. The ISA gives block_sums<packing, panels, streams>, and how many
// integer sums its registers hold:
//   kTile             streams of one panel, whose weights are unpacked in registers
//   kPlainPanels      panels that share each activation when their weights are unpacked before …
//   kPlainTokens      … tokens of these, with 8-bit activations, and …
//   kPlainWideTokens  … with 16-bit ones

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

// The sums of one block of some panels as floats, for each panel and token: the high part's
// kHighBase times, and the low part's.
template <Packing kPacking, int kPanels, int kTokens, bool kWide, class Groups>
LAPIDARY_INLINE void float_sums(const Groups* groups, const BlockScales* s, const InputCursor& x,
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
  I exact[kPanels * kStreams];
  block_sums<kPacking, kPanels, kStreams>(groups, s, values, sums, exact);
  for (int p = 0; p < kPanels; ++p) {
    const I* parts = exact + p * kStreams;
    for (int t = 0; t < kTokens; ++t) {
      F sum = to_float(parts[t]);
      if constexpr (kWide)
        sum = fma(broadcast(static_cast<float>(kHighBase)), sum, to_float(parts[kTokens + t]));
      out[p * kTokens + t] = sum;
    }
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

// A tile: some tokens of some panels, whose blocks lie as `panels` [kPanels] says.
template <Packing kPacking, int kPanels, int kTokens, bool kWide, class Blocks>
void multiply_tile(const MatmulArgs& a, const Blocks* panels, int token, float* out) {
  constexpr int kCells = kPanels * kTokens;
  InputCursor x(*a.input, a.token_begin + token);
  F acc[kCells];
  for (int i = 0; i < kCells; ++i) acc[i] = broadcast(0.0F);
  for (int b = 0; b < a.columns / kBlock; ++b) {
    BlockScales s[kPanels];
    decltype(panels->groups(b)) groups[kPanels];
    for (int p = 0; p < kPanels; ++p) {
      s[p] = panels[p].scales(b);
      groups[p] = panels[p].groups(b);
    }
    F sums[kCells];
    if (kWide && uses_low<kTokens>(x)) {
      float_sums<kPacking, kPanels, kTokens, true>(groups, s, x, sums);
    } else {
      float_sums<kPacking, kPanels, kTokens, false>(groups, s, x, sums);
      if constexpr (kWide) {
        for (int i = 0; i < kCells; ++i)
          sums[i] = mul(sums[i], broadcast(static_cast<float>(kHighBase)));
      }
    }
    leave_in_memory(acc);
    for (int i = 0; i < kCells; ++i) {
      const int p = i / kTokens;
      const std::size_t at = static_cast<std::size_t>(i % kTokens) * x.blocks;
      acc[i] = fma(sums[i], mul(s[p].scale, broadcast(x.scales[at])), acc[i]);
      if constexpr (packed_traits(kPacking).scheme == Scheme::kAffine)
        acc[i] = fma(s[p].offset, broadcast(x.scaled_sums[at]), acc[i]);
    }
    x.template step<kWide>();
  }
  for (int i = 0; i < kCells; ++i) {
    const auto t = static_cast<std::size_t>(token + i % kTokens);
    store(out + t * a.out_stride + i / kTokens * kPanelRows, acc[i]);
  }
}

// Tokens [token, end) in tiles of kTokens, and what is left in smaller ones.
template <Packing kPacking, int kPanels, int kTokens, bool kWide, class Blocks>
void multiply_tiles(const MatmulArgs& a, const Blocks* panels, int token, int end, float* out) {
  for (; token + kTokens <= end; token += kTokens)
    multiply_tile<kPacking, kPanels, kTokens, kWide>(a, panels, token, out);
  if constexpr (kTokens > 1)
    multiply_tiles<kPacking, kPanels, kTokens / 2, kWide>(a, panels, token, end, out);
}

// All tokens of `count` panels that follow each other in the matrix. `blocks(i)` says how the
// blocks of the i-th lie.
template <Packing kPacking, bool kWide, class Panels>
void multiply_panels(const MatmulArgs& a, int count, const Panels& blocks) {
  constexpr int kFew = kWide ? kTile / 2 : kTile;
  int p = 0;
  if (a.tokens >= kUnpackTokens) {
    constexpr int kMany = kWide ? kPlainWideTokens : kPlainTokens;
    const std::size_t bytes = static_cast<std::size_t>(a.columns / kBlock) * kPlainBlock<kPacking>;
    for (; p + kPlainPanels <= count; p += kPlainPanels) {
      PlainBlocks<kPacking> plain[kPlainPanels];
      for (int i = 0; i < kPlainPanels; ++i) {
        auto* scratch =
            reinterpret_cast<std::uint8_t*>(a.scratch) + static_cast<std::size_t>(i) * bytes;
        unpack_panel<kPacking>(blocks(p + i), a.columns / kBlock, scratch);
        plain[i] = {scratch};
      }
      multiply_tiles<kPacking, kPlainPanels, kMany, kWide>(a, plain, 0, a.tokens,
                                                           a.out + p * kPanelRows);
    }
  }
  for (; p < count; ++p) {
    const auto panel = blocks(p);
    multiply_tiles<kPacking, 1, kFew, kWide>(a, &panel, 0, a.tokens, a.out + p * kPanelRows);
  }
}

template <Packing kPacking, bool kWide>
void matmul_quantized(const MatmulArgs& a) {
  const auto* first = reinterpret_cast<const std::uint8_t*>(a.panels);
  multiply_panels<kPacking, kWide>(a, a.panel_end - a.panel_begin, [&](int i) {
    const auto panel = static_cast<std::size_t>(a.panel_begin + i);
    return PackedBlocks<kPacking>{first + panel * a.panel_bytes};
  });
}
