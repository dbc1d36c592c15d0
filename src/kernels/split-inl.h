// Products with matrices in planes.
#pragma once

#include "kernels/matmul-inl.h"

struct LowGroups {
  Bytes plane[4];  // Of kQ6Split: two of this block, two of the next.
  template <int g>
  LAPIDARY_INLINE Bytes get() const {
    if constexpr (g < 4) {
      return nibble_low(plane[g]);
    } else {
      return nibble_high(plane[g - 4]);
    }
  }
};

template <Packing kPacking>
struct SplitGroups {
  PackedGroups<SplitLayout(kPacking, kBlock).top_packing()> top;
  LowGroups low;
  template <int g>
  LAPIDARY_INLINE Bytes get() const {
    const Bytes upper = top.template get<g>();
    if constexpr (kPacking == Packing::kQ6Split) {
      return append_bits<2>(upper, bit_field<2, 2 * (g % 4)>(low.plane[g / 4]));
    } else {
      return join_nibbles(upper, low.template get<g>());
    }
  }
};

// Exact sums of one block: 16 · upper plane + lower plane, both summed as the nibbles they are,
// which is less work than to join them.
template <Packing kPacking, int kPanels, int kStreams>
LAPIDARY_INLINE void block_sums(const SplitGroups<Packing::kQ8Split>* groups,
                                const BlockScales* scales, const std::int8_t* const* x,
                                const std::int16_t* const* sums, Ints* out) {
  static_assert(kPanels == 1);
  Ints low[kStreams];
  block_sums<Packing::kQ4_0, 1, kStreams>(&groups->top, scales, x, sums, out);
  block_sums<Packing::kQ4_1, 1, kStreams>(&groups->low, scales, x, sums, low);
  for (int s = 0; s < kStreams; ++s) out[s] = add(mul(out[s], broadcast_int(16)), low[s]);
}

template <Packing kPacking>
struct SplitBlocks {
  static constexpr SplitLayout kOneBlock{kPacking, kBlock};
  static constexpr PackedTraits kTop = packed_traits(kOneBlock.top_packing());
  const std::uint8_t* top;
  const std::uint8_t* low;
  std::size_t row_bytes;    // Of a row of the low panel, …
  std::size_t panel_bytes;  // … and of all of it.

  LAPIDARY_INLINE SplitGroups<kPacking> groups(int block) const {
    const std::uint8_t* nibbles = top + block_offset(kTop, block);
    prefetch_ahead(nibbles, kTop.block_bytes());
    const std::size_t at = kOneBlock.row_bytes() * static_cast<std::size_t>(block);
    // A block is a piece of each of sixteen rows: the next panel, in the order in which it lies.
    for (std::size_t next = 0; next < kOneBlock.low_row(kPanelRows); next += 64)
      __builtin_prefetch(low + panel_bytes + kPanelRows * at + next, 0, kSecondLevel);
    SplitGroups<kPacking> out{{nibbles}, {}};
    load_low_rows(low + at, row_bytes, out.low.plane);
    return out;
  }
  LAPIDARY_INLINE BlockScales scales(int block) const {
    BlockScales out{};
    if constexpr (kPacking == Packing::kQ6Split) {
      out = read_scales<Packing::kQ6Top>(top, block);
      out.scale = mul(out.scale, broadcast(2.0F));
    } else {
      out.scale = load_half(top + block_offset(kTop, block) + kTop.quant_bytes());
    }
    return out;
  }
};

template <Packing kPacking>
void matmul_split(const PlanesMatmulArgs& planes) {
  const MatmulArgs& a = planes.top;
  constexpr Packing kWhole = kPacking == Packing::kQ6Split ? Packing::kQ6_K : Packing::kQ8Split;
  const SplitLayout layout(kPacking, a.columns);
  multiply_panels<kWhole, true>(a, a.panel_end - a.panel_begin, [&](int i) {
    const auto panel = static_cast<std::size_t>(a.panel_begin + i);
    return SplitBlocks<kPacking>{
        reinterpret_cast<const std::uint8_t*>(a.panels + panel * layout.top_bytes()),
        reinterpret_cast<const std::uint8_t*>(planes.second + panel * layout.low_bytes()),
        layout.row_bytes(), layout.low_bytes()};
  });
}

// The upper five bits.
struct Top5Groups {
  PackedGroups<Packing::kQ8Top> top;
  const std::uint8_t* bits;
  template <int g>
  LAPIDARY_INLINE Bytes get() const {
    return append_bits<1>(top.template get<g>(), bit_field<1, g>(load_group(bits)));
  }
};

struct Top5Blocks {
  static constexpr PackedTraits kTop = packed_traits(Packing::kQ8Top);
  const std::uint8_t* top;
  const std::uint8_t* middle;

  LAPIDARY_INLINE Top5Groups groups(int block) const {
    const auto b = static_cast<std::size_t>(block);
    const std::uint8_t* nibbles = top + block_offset(kTop, block);
    prefetch_ahead(nibbles, kTop.block_bytes());
    prefetch_ahead(middle + 64 * b, 1);
    return {{nibbles}, middle + 64 * b};
  }
  LAPIDARY_INLINE BlockScales scales(int block) const {
    BlockScales out{};
    const Floats scale = load_half(top + block_offset(kTop, block) + kTop.quant_bytes());
    out.scale = mul(scale, broadcast(8.0F));
    out.offset = mul(scale, broadcast(3.5F));
    return out;
  }
};

inline void matmul_top5(const PlanesMatmulArgs& planes) {
  const MatmulArgs& a = planes.top;
  const SplitLayout layout(Packing::kQ8Split, a.columns);
  multiply_panels<Packing::kQ8Top5, true>(a, a.panel_end - a.panel_begin, [&](int i) {
    const auto panel = static_cast<std::size_t>(a.panel_begin + i);
    return Top5Blocks{
        reinterpret_cast<const std::uint8_t*>(a.panels + panel * layout.top_bytes()),
        reinterpret_cast<const std::uint8_t*>(planes.second + panel * layout.middle_bytes())};
  });
}
