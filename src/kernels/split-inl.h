// Included after matmul-inl.h: products with both planes of a kQ8Split matrix. The ISA gives
// load_low_rows, which makes the four nibble planes of a block from the sixteen rows of a low panel
// ([16 bytes], `stride` apart), and join_nibbles: signed bytes 16 · (high - 8) + low.

struct LowGroups {
  Q plane[4];
  template <int g>
  LAPIDARY_INLINE Q get() const {
    if constexpr (g < 4) {
      return nibble_low(plane[g]);
    } else {
      return nibble_high(plane[g - 4]);
    }
  }
};

struct SplitGroups {
  PackedGroups<Packing::kQ8Top> top;
  LowGroups low;
  template <int g>
  LAPIDARY_INLINE Q get() const {
    return join_nibbles(top.template get<g>(), low.template get<g>());
  }
};

struct SplitPanel {
  const std::uint8_t* top;
  const std::uint8_t* low;
  int blocks;

  LAPIDARY_INLINE SplitGroups groups(int block) const {
    SplitGroups out{{top + static_cast<std::size_t>(block) * SplitLayout::kTopBlock}, {}};
    load_low_rows(low + 16 * block, static_cast<std::size_t>(blocks) * 16, out.low.plane);
    return out;
  }
  LAPIDARY_INLINE BlockScales scales(int block) const {
    BlockScales out{};
    out.scale = load_half(top + static_cast<std::size_t>(block) * SplitLayout::kTopBlock + 256);
    return out;
  }
};

// The exact sums of one block, of the high and (kParts = 2) the low part of a token's activations:
// 16 · upper plane + lower plane, the planes as the nibbles they are.
template <int kParts>
LAPIDARY_INLINE void split_sums(const SplitGroups& groups, const InputCursor& x, I* out) {
  const std::int8_t* parts[2] = {x.values, x.low};
  const std::int16_t* sums[2] = {x.sums, x.low_sums};
  I low[kParts];
  block_sums<4, 0, 8, kParts>(groups.top, parts, out);
  block_sums<4, 0, 8, kParts>(groups.low, parts, low);
  for (int i = 0; i < kParts; ++i) {
    const I bias = broadcast_int(128 * (sums[i][0] + sums[i][1]));
    out[i] = sub(add(mul(out[i], broadcast_int(16)), low[i]), bias);
  }
}

template <bool kWide>
void multiply_split(const MatmulArgs& a, const SplitPanel& panel, int token, float* out) {
  InputCursor x(*a.input, token);
  F acc = broadcast(0.0F);
  for (int b = 0; b < panel.blocks; ++b) {
    const std::uint8_t* next_top = panel.top + static_cast<std::size_t>(b) * SplitLayout::kTopBlock;
    for (int i = 0; i < 5; ++i) __builtin_prefetch(next_top + 3072 + 64 * i);
    for (int i = 0; i < 16; i += 4) __builtin_prefetch(panel.low + 16 * b * 16 + 3072 + 16 * i);
    I sums[2];
    split_sums<kWide ? 2 : 1>(panel.groups(b), x, sums);
    F block = to_float(sums[0]);
    if constexpr (kWide) {
      block = fma(broadcast(static_cast<float>(kHighBase)), block, to_float(sums[1]));
    }
    acc = fma(block, mul(panel.scales(b).scale, broadcast(*x.scales)), acc);
    x.template step<kWide>();
  }
  store(out, acc);
}

inline void unpack_split_panel(const SplitPanel& panel, std::uint8_t* scratch) {
  for (int b = 0; b < panel.blocks; ++b, scratch += kPlainBlock) {
    const SplitGroups groups = panel.groups(b);
    store_group(scratch, groups.template get<0>());
    store_group(scratch + 64, groups.template get<1>());
    store_group(scratch + 128, groups.template get<2>());
    store_group(scratch + 192, groups.template get<3>());
    store_group(scratch + 256, groups.template get<4>());
    store_group(scratch + 320, groups.template get<5>());
    store_group(scratch + 384, groups.template get<6>());
    store_group(scratch + 448, groups.template get<7>());
    store(reinterpret_cast<float*>(scratch + 512), panel.scales(b).scale);
  }
}

// The upper five bits.
struct Top5Groups {
  PackedGroups<Packing::kQ8Top> top;
  const std::uint8_t* bits;
  template <int g>
  LAPIDARY_INLINE Q get() const {
    return append_bit<g>(top.template get<g>(), load_group(bits));
  }
};

struct Top5Panel {
  const std::uint8_t* top;
  const std::uint8_t* middle;
  int blocks;

  LAPIDARY_INLINE Top5Groups groups(int block) const {
    return {{top + static_cast<std::size_t>(block) * SplitLayout::kTopBlock}, middle + 64 * block};
  }
  LAPIDARY_INLINE BlockScales scales(int block) const {
    BlockScales out{};
    const F scale = load_half(top + static_cast<std::size_t>(block) * SplitLayout::kTopBlock + 256);
    out.scale = mul(scale, broadcast(8.0F));
    out.offset = mul(scale, broadcast(3.5F));
    return out;
  }
};

template <bool kWide>
void matmul_top5(const MatmulArgs& a) {
  const SplitLayout layout(a.columns);
  for (int p = a.panel_begin; p < a.panel_end; ++p) {
    const auto index = static_cast<std::size_t>(p);
    const Top5Panel panel{
        reinterpret_cast<const std::uint8_t*>(a.panels + index * layout.top_bytes()),
        reinterpret_cast<const std::uint8_t*>(a.low + index * layout.middle_bytes()),
        layout.blocks};
    float* out = a.out + (p - a.panel_begin) * kPanelRows;
    for (int t = 0; t < a.tokens; ++t, out += a.out_stride) {
      InputCursor x(*a.input, a.token_begin + t);
      F acc = broadcast(0.0F);
      for (int b = 0; b < panel.blocks; ++b)
        accumulate<Packing::kQ8Top5, 1, kWide>(panel.groups(b), panel.scales(b), x, &acc);
      store(out, acc);
    }
  }
}

template <bool kWide>
void matmul_split(const MatmulArgs& a) {
  const SplitLayout layout(a.columns);
  for (int p = a.panel_begin; p < a.panel_end; ++p) {
    const auto index = static_cast<std::size_t>(p);
    const SplitPanel panel{
        reinterpret_cast<const std::uint8_t*>(a.panels + index * layout.top_bytes()),
        reinterpret_cast<const std::uint8_t*>(a.low + index * layout.low_bytes()), layout.blocks};
    float* out = a.out + (p - a.panel_begin) * kPanelRows;
    if (a.tokens == 1) {
      multiply_split<kWide>(a, panel, a.token_begin, out);
      continue;
    }
    auto* scratch = reinterpret_cast<std::uint8_t*>(a.scratch);
    unpack_split_panel(panel, scratch);
    int t = 0;
    for (; t + kTile <= a.tokens; t += kTile) {
      multiply_plain<Packing::kQ8_0, kTile, kWide>(
          a, scratch, a.token_begin + t, out + static_cast<std::size_t>(t) * a.out_stride);
    }
    for (; t < a.tokens; ++t) {
      multiply_plain<Packing::kQ8_0, 1, kWide>(a, scratch, a.token_begin + t,
                                               out + static_cast<std::size_t>(t) * a.out_stride);
    }
  }
}
