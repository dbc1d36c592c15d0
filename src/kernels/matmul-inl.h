// Included after float-inl.h, in ISAs that have integer dot products over 64-byte groups (Q: 16
// rows × 4 k). The ISA gives kTile (tokens that share a weight in registers), kByteBias (what
// block_sums adds to 8-bit weights), load_group, nibble_low/high, merge_plane, load_half,
// load_u8_rows, load_s8_rows, and block_sums<bits, first group, groups, tokens>.

// Group g of a packed block, straight from its planes.
template <Packing kPacking>
struct PackedGroups {
  const std::uint8_t* block;
  template <int g>
  LAPIDARY_INLINE Q get() const {
    constexpr PackedTraits kTraits = packed_traits(kPacking);
    if constexpr (kTraits.bits == 8) {
      return load_group(block + 64 * g);
    } else {
      const Q bytes = load_group(block + 64 * (g % 4));
      Q q;
      if constexpr (g < 4) {
        q = nibble_low(bytes);
      } else {
        q = nibble_high(bytes);
      }
      if constexpr (kTraits.bits == 5) q = merge_plane<g, 0x10>(q, load_group(block + 256));
      if constexpr (kTraits.bits == 6)
        q = merge_plane<2 * (g % 4), 0x30>(q, load_group(block + 256 + 64 * (g / 4)));
      return q;
    }
  }
};

// Group g of a block that was unpacked to whole bytes.
struct PlainGroups {
  const std::uint8_t* block;
  template <int g>
  LAPIDARY_INLINE Q get() const {
    return load_group(block + 64 * g);
  }
};

struct BlockScales {
  F scale, offset;
  I half0, half1;
};

template <Packing kPacking>
LAPIDARY_INLINE BlockScales read_scales(const std::uint8_t* panel, int block) {
  constexpr PackedTraits kTraits = packed_traits(kPacking);
  const std::uint8_t* scales = panel + block_offset(kTraits, block) + kTraits.quant_bytes();
  BlockScales out{};
  if constexpr (kPacking == Packing::kQ4_K || kPacking == Packing::kQ5_K) {
    const std::uint8_t* super = panel + super_offset(kTraits, block);
    out.scale = mul(load_half(super), to_float(load_u8_rows(scales)));
    out.offset =
        mul(load_half(super + 32), mul(to_float(load_u8_rows(scales + 16)), broadcast(-1.0F)));
  } else if constexpr (kPacking == Packing::kQ8Top) {
    const F scale = load_half(scales);
    out.scale = mul(scale, broadcast(16.0F));
    out.offset = mul(scale, broadcast(7.5F));
  } else if constexpr (kTraits.scheme == Scheme::kHalfScaled) {
    out.scale = load_half(panel + super_offset(kTraits, block));
    out.half0 = load_s8_rows(scales);
    out.half1 = load_s8_rows(scales + 16);
  } else {
    out.scale = load_half(scales);
    if constexpr (kTraits.scheme == Scheme::kAffine) out.offset = load_half(scales + 32);
  }
  return out;
}

// Exact integer sums of one block for some tokens, bias and half scales applied.
template <Packing kPacking, int kTokens, class Groups>
LAPIDARY_INLINE void exact_sums(const Groups& groups, const BlockScales& s,
                                const std::int8_t* first, const std::int16_t* first_sums,
                                std::size_t blocks, I* out) {
  const std::int8_t* x[kTokens];
  const std::int16_t* sums[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    x[t] = first + static_cast<std::size_t>(t) * blocks * kBlock;
    sums[t] = first_sums + static_cast<std::size_t>(t) * blocks * 2;
  }
  constexpr PackedTraits kTraits = packed_traits(kPacking);
  constexpr int kBias = kTraits.bits == 8 ? kByteBias : kTraits.bias;
  if constexpr (kTraits.scheme == Scheme::kHalfScaled) {
    I second[kTokens];
    block_sums<kTraits.bits, 0, 4, kTokens>(groups, x, out);
    block_sums<kTraits.bits, 4, 4, kTokens>(groups, x, second);
    for (int t = 0; t < kTokens; ++t) {
      const I a = sub(out[t], broadcast_int(kBias * sums[t][0]));
      const I b = sub(second[t], broadcast_int(kBias * sums[t][1]));
      out[t] = add(mul(a, s.half0), mul(b, s.half1));
    }
  } else {
    block_sums<kTraits.bits, 0, 8, kTokens>(groups, x, out);
    if constexpr (kBias != 0) {
      for (int t = 0; t < kTokens; ++t)
        out[t] = sub(out[t], broadcast_int(kBias * (sums[t][0] + sums[t][1])));
    }
  }
}

// Where some tokens' activations stand, block by block: token t's are t · columns (or blocks)
// further on.
struct InputCursor {
  const std::int8_t* values;
  const std::int8_t* low;
  const std::int16_t* sums;
  const std::int16_t* low_sums;
  const float* scales;
  const float* scaled_sums;
  std::size_t blocks;  // Of one token.

  InputCursor(const QuantizedInput& in, int token) {
    const std::size_t block = first_block(in, token);
    blocks = first_block(in, 1);
    values = in.values + block * kBlock;
    sums = in.sums + 2 * block;
    low = in.low != nullptr ? in.low + block * kBlock : nullptr;
    low_sums = in.low_sums != nullptr ? in.low_sums + 2 * block : nullptr;
    scales = in.scales + block;
    scaled_sums = in.scaled_sums + block;
  }
  template <bool kWide>
  void step() {
    values += kBlock;
    sums += 2;
    ++scales;
    ++scaled_sums;
    if constexpr (kWide) {
      low += kBlock;
      low_sums += 2;
    }
  }
};

template <Packing kPacking, int kTokens, bool kWide, class Groups>
LAPIDARY_INLINE void accumulate(const Groups& groups, const BlockScales& s, InputCursor& x,
                                F* acc) {
  I sums[kTokens];
  F block[kTokens];
  exact_sums<kPacking, kTokens>(groups, s, x.values, x.sums, x.blocks, sums);
  for (int t = 0; t < kTokens; ++t) block[t] = to_float(sums[t]);
  if constexpr (kWide) {
    exact_sums<kPacking, kTokens>(groups, s, x.low, x.low_sums, x.blocks, sums);
    for (int t = 0; t < kTokens; ++t)
      block[t] = fma(broadcast(static_cast<float>(kHighBase)), block[t], to_float(sums[t]));
  }
  for (int t = 0; t < kTokens; ++t) {
    const std::size_t at = static_cast<std::size_t>(t) * x.blocks;
    acc[t] = fma(block[t], mul(s.scale, broadcast(x.scales[at])), acc[t]);
    if constexpr (packed_traits(kPacking).scheme == Scheme::kAffine)
      acc[t] = fma(s.offset, broadcast(x.scaled_sums[at]), acc[t]);
  }
  x.template step<kWide>();
}

// One token: weights go from memory to registers to sums.
template <Packing kPacking, bool kWide>
void multiply_packed(const MatmulArgs& a, const std::uint8_t* panel, int token, float* out) {
  InputCursor x(*a.input, token);
  F acc = broadcast(0.0F);
  for (int b = 0; b < a.columns / kBlock; ++b) {
    const PackedGroups<kPacking> groups{panel + block_offset(packed_traits(kPacking), b)};
    accumulate<kPacking, 1, kWide>(groups, read_scales<kPacking>(panel, b), x, &acc);
  }
  store(out, acc);
}

// An unpacked block in scratch: 512 bytes of values, scales, offsets or half scales.
inline constexpr std::size_t kPlainBlock = 512 + 64 + 64 + 128;

template <Packing kPacking>
void unpack_panel(const std::uint8_t* panel, int blocks, std::uint8_t* scratch) {
  for (int b = 0; b < blocks; ++b, scratch += kPlainBlock) {
    const PackedGroups<kPacking> groups{panel + block_offset(packed_traits(kPacking), b)};
    store_group(scratch, groups.template get<0>());
    store_group(scratch + 64, groups.template get<1>());
    store_group(scratch + 128, groups.template get<2>());
    store_group(scratch + 192, groups.template get<3>());
    store_group(scratch + 256, groups.template get<4>());
    store_group(scratch + 320, groups.template get<5>());
    store_group(scratch + 384, groups.template get<6>());
    store_group(scratch + 448, groups.template get<7>());
    const BlockScales s = read_scales<kPacking>(panel, b);
    auto* floats = reinterpret_cast<float*>(scratch + 512);
    store(floats, s.scale);
    if constexpr (packed_traits(kPacking).scheme == Scheme::kAffine) store(floats + 16, s.offset);
    if constexpr (packed_traits(kPacking).scheme == Scheme::kHalfScaled) {
      store_int(reinterpret_cast<std::int32_t*>(scratch + 640), s.half0);
      store_int(reinterpret_cast<std::int32_t*>(scratch + 704), s.half1);
    }
  }
}

template <Packing kPacking, int kTokens, bool kWide>
void multiply_plain(const MatmulArgs& a, const std::uint8_t* scratch, int token, float* out) {
  InputCursor x(*a.input, token);
  F acc[kTokens];
  for (int t = 0; t < kTokens; ++t) acc[t] = broadcast(0.0F);
  for (int b = 0; b < a.columns / kBlock; ++b, scratch += kPlainBlock) {
    BlockScales s{};
    const auto* floats = reinterpret_cast<const float*>(scratch + 512);
    s.scale = load(floats);
    if constexpr (packed_traits(kPacking).scheme == Scheme::kAffine) s.offset = load(floats + 16);
    if constexpr (packed_traits(kPacking).scheme == Scheme::kHalfScaled) {
      s.half0 = load_int(reinterpret_cast<const std::int32_t*>(scratch + 640));
      s.half1 = load_int(reinterpret_cast<const std::int32_t*>(scratch + 704));
    }
    accumulate<kPacking, kTokens, kWide>(PlainGroups{scratch}, s, x, acc);
  }
  for (int t = 0; t < kTokens; ++t) store(out + static_cast<std::size_t>(t) * a.out_stride, acc[t]);
}

template <Packing kPacking, bool kWide>
void matmul_quantized(const MatmulArgs& a) {
  for (int p = a.panel_begin; p < a.panel_end; ++p) {
    const auto* panel = reinterpret_cast<const std::uint8_t*>(
        a.panels + static_cast<std::size_t>(p) * a.panel_bytes);
    float* out = a.out + (p - a.panel_begin) * kPanelRows;
    if (a.tokens == 1) {
      multiply_packed<kPacking, kWide>(a, panel, a.token_begin, out);
      continue;
    }
    auto* scratch = reinterpret_cast<std::uint8_t*>(a.scratch);
    unpack_panel<kPacking>(panel, a.columns / kBlock, scratch);
    int t = 0;
    for (; t + kTile <= a.tokens; t += kTile) {
      multiply_plain<kPacking, kTile, kWide>(a, scratch, a.token_begin + t,
                                             out + static_cast<std::size_t>(t) * a.out_stride);
    }
    for (; t < a.tokens; ++t) {
      multiply_plain<kPacking, 1, kWide>(a, scratch, a.token_begin + t,
                                         out + static_cast<std::size_t>(t) * a.out_stride);
    }
  }
}
