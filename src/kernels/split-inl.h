// Included after matmul-inl.h: products with the planes of a kQ8Split matrix. The ISA gives
// load_low_rows, which makes the four nibble planes of a block from the sixteen rows of a low panel
// ([16 bytes], `stride` apart), join_nibbles: signed bytes 16 · (high - 8) + low, and
// append_bit<bit>: 2 · q + that bit of every byte of a plane.

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

// Exact sums of one block: 16 · upper plane + lower plane, both summed as the nibbles they are,
// which is less work than to join them.
template <Packing kPacking, int kPanels, int kStreams>
LAPIDARY_INLINE void block_sums(const SplitGroups* groups, const BlockScales* scales,
                                const std::int8_t* const* x, const std::int16_t* const* sums,
                                I* out) {
  static_assert(kPanels == 1);
  I low[kStreams];
  block_sums<Packing::kQ4_0, 1, kStreams>(&groups->top, scales, x, sums, out);
  block_sums<Packing::kQ4_1, 1, kStreams>(&groups->low, scales, x, sums, low);
  for (int s = 0; s < kStreams; ++s) out[s] = add(mul(out[s], broadcast_int(16)), low[s]);
}

struct SplitBlocks {
  const std::uint8_t* top;
  const std::uint8_t* low;
  std::size_t row_bytes;    // Of a row of the low panel, …
  std::size_t panel_bytes;  // … and of all of it.

  LAPIDARY_INLINE SplitGroups groups(int block) const {
    const auto b = static_cast<std::size_t>(block);
    const std::uint8_t* nibbles = top + b * SplitLayout::kTopBlock;
    prefetch_ahead(nibbles, SplitLayout::kTopBlock);
    // A block is a piece of each of sixteen rows: the next panel, in the order in which it lies.
    for (std::size_t at = 0; at < 256; at += 64)
      __builtin_prefetch(low + panel_bytes + 256 * b + at, 0, 2);
    SplitGroups out{{nibbles}, {}};
    load_low_rows(low + 16 * b, row_bytes, out.low.plane);
    return out;
  }
  LAPIDARY_INLINE BlockScales scales(int block) const {
    BlockScales out{};
    out.scale = load_half(top + static_cast<std::size_t>(block) * SplitLayout::kTopBlock + 256);
    return out;
  }
};

template <bool kWide>
void matmul_split(const MatmulArgs& a) {
  const SplitLayout layout(a.columns);
  multiply_panels<Packing::kQ8Split, kWide>(a, a.panel_end - a.panel_begin, [&](int i) {
    const auto panel = static_cast<std::size_t>(a.panel_begin + i);
    return SplitBlocks{reinterpret_cast<const std::uint8_t*>(a.panels + panel * layout.top_bytes()),
                       reinterpret_cast<const std::uint8_t*>(a.low + panel * layout.low_bytes()),
                       layout.count() * 16, layout.low_bytes()};
  });
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

struct Top5Blocks {
  const std::uint8_t* top;
  const std::uint8_t* middle;

  LAPIDARY_INLINE Top5Groups groups(int block) const {
    const auto b = static_cast<std::size_t>(block);
    prefetch_ahead(top + b * SplitLayout::kTopBlock, SplitLayout::kTopBlock);
    prefetch_ahead(middle + 64 * b, 1);
    return {{top + b * SplitLayout::kTopBlock}, middle + 64 * b};
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
  multiply_panels<Packing::kQ8Top5, kWide>(a, a.panel_end - a.panel_begin, [&](int i) {
    const auto panel = static_cast<std::size_t>(a.panel_begin + i);
    return Top5Blocks{reinterpret_cast<const std::uint8_t*>(a.panels + panel * layout.top_bytes()),
                      reinterpret_cast<const std::uint8_t*>(a.low + panel * layout.middle_bytes())};
  });
}
