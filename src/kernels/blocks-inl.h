// A block's weights, packed as pack.h says, and unpacked in scratch: for ISAs that multiply groups
// of 64 bytes, 16 rows × 4 k.
#pragma once

#include "kernels/prefetch-inl.h"

// A code book as products take its entries: plus kByteBias.
struct BiasedCodes {
  alignas(16) std::uint8_t bytes[16];
  constexpr explicit BiasedCodes(const CodeBook& codes) : bytes() {
    for (int i = 0; i < 16; ++i) bytes[i] = static_cast<std::uint8_t>(codes[i] + kByteBias);
  }
};
template <Packing kPacking>
inline constexpr BiasedCodes kBiasedCodes{*packed_traits(kPacking).stored.codes};

// The entries of a grid, as what their levels stand for in the code book.
struct GridBytes {
  alignas(64) std::uint32_t entries[256];
  constexpr GridBytes(const std::uint16_t* grid, const CodeBook& codes) : entries() {
    for (int i = 0; i < 256; ++i) {
      for (int k = 0; k < 4; ++k)
        entries[i] |= static_cast<std::uint32_t>(codes[grid[i] >> 3 * k & 7]) << 8 * k;
    }
  }
};
template <Packing kPacking>
inline constexpr GridBytes kGridBytes{packed_traits(kPacking).stored.grid,
                                      *packed_traits(kPacking).stored.codes};

// Group g of a packed block, straight from its planes: the stored integers, or what a code book
// makes of them.
template <Packing kPacking>
struct PackedGroups {
  const std::uint8_t* block;
  template <int g>
  LAPIDARY_INLINE Bytes get() const {
    constexpr PackedTraits kTraits = packed_traits(kPacking);
    if constexpr (kTraits.bits() == 8) {
      return load_group(block + 64 * g);
    } else if constexpr (kTraits.stored.grid != nullptr) {
      const Bytes sizes = look_up_fours(block + 16 * g, kGridBytes<kPacking>.entries);
      return negate_where<g>(sizes, load_group(block + 128));
    } else if constexpr (kTraits.bits() < 4) {
      Bytes q = bit_field<2, 2 * (g % 4)>(load_group(block + 64 * (g / 4)));
      // Bit g, and the bit that group g's eight values share, become bit 2.
      if constexpr (kTraits.bits() == 3) q = merge_plane<g + 2, 0x04>(q, load_group(block + 128));
      if constexpr (kTraits.scales().form == ScaleForm::kOctets)
        q = merge_plane<4 + g % 4 / 2 + 2, 0x04>(q, spread_rows(block + 128 + 16 * (g / 4)));
      if constexpr (kTraits.stored.codes != nullptr) q = look_up(q, kBiasedCodes<kPacking>.bytes);
      return q;
    } else {
      const Bytes bytes = load_group(block + 64 * (g % 4));
      Bytes q;
      if constexpr (g < 4) {
        q = nibble_low(bytes);
      } else {
        q = nibble_high(bytes);
      }
      if constexpr (kTraits.bits() == 5) q = merge_plane<g, 0x10>(q, load_group(block + 256));
      if constexpr (kTraits.bits() == 6)
        q = merge_plane<2 * (g % 4), 0x30>(q, load_group(block + 256 + 64 * (g / 4)));
      if constexpr (kTraits.stored.codes != nullptr) q = look_up(q, kBiasedCodes<kPacking>.bytes);
      return q;
    }
  }
};

// Group g of a block that was unpacked to whole bytes.
struct PlainGroups {
  const std::uint8_t* block;
  template <int g>
  LAPIDARY_INLINE Bytes get() const {
    return load_group(block + 64 * g);
  }
};

struct BlockScales {
  Floats scale, offset;
  Ints half0, half1;        // Of kHalfScaled and kHalfAffine.
  Ints minimum0, minimum1;  // Of kHalfAffine.
};

// Of bytes from load_half_scales, whether int32 or twice as words: the lower nibbles, and the upper
// ones. The mask takes away signs, and what is shifted in.
inline constexpr int kNibbles = LAPIDARY_BYTE_PRODUCTS == 2 ? 0x000F000F : 15;
LAPIDARY_INLINE Ints low_nibbles(const Ints& bytes) { return mask_lanes(bytes, kNibbles); }
LAPIDARY_INLINE Ints high_nibbles(const Ints& bytes) {
  return mask_lanes(shift_right<4>(bytes), kNibbles);
}

// What a block of kHalfAffine comes to: of its weights, and of its minima.
template <class Sum>
struct AffineSum {
  Sum values, minimums;
};

template <Packing kPacking>
LAPIDARY_INLINE BlockScales read_scales(const std::uint8_t* panel, int block) {
  constexpr PackedTraits kTraits = packed_traits(kPacking);
  const std::uint8_t* scales = panel + block_offset(kTraits, block) + kTraits.quant_bytes();
  const std::uint8_t* super = panel + super_offset(kTraits, block);
  BlockScales out{};
  constexpr Scales kScales = kTraits.scales();
  if constexpr (kScales.form == ScaleForm::kBrain) {
    out.scale = load_bf16(reinterpret_cast<const std::uint16_t*>(scales));
    return out;
  }
  out.scale = load_half(kScales.integers == 0 ? scales : super);
  if constexpr (kScales.unit != 1.0F) out.scale = mul(out.scale, broadcast(kScales.unit));
  if constexpr (kScales.nibbles()) {
    constexpr bool kShifted = kScales.form == ScaleForm::kShifts;
    const Ints both = load_u8_rows(super + nibbles_offset(kTraits, block));
    const Ints own = mask_lanes(block % 2 == 0 ? both : shift_right<4>(both), 15);
    const Floats number = to_float(kShifted ? mask_lanes(own, 7) : own);
    out.scale = mul(out.scale, fma(number, broadcast(2.0F), broadcast(1.0F)));
    if constexpr (kShifted) {
      const Floats eighth =
          fma(to_float(mask_lanes(own, 8)), broadcast(-1.0F / 32), broadcast(0.125F));
      out.offset = mul(out.scale, eighth);
    }
  } else if constexpr (kScales.form == ScaleForm::kPairs) {
    const Ints first = load_half_scales(scales), second = load_half_scales(scales + 16);
    out.half0 = low_nibbles(first);
    out.half1 = low_nibbles(second);
    out.minimum0 = high_nibbles(first);
    out.minimum1 = high_nibbles(second);
    out.offset = mul(load_half(super + 32), broadcast(-1.0F));
  } else if constexpr (kScales.form == ScaleForm::kOctets) {
    out.half0 = low_nibbles(load_half_scales(scales));
    out.half1 = low_nibbles(load_half_scales(scales + 16));
  } else if constexpr (scheme_of(kScales) == Scheme::kHalfScaled) {
    out.half0 = load_half_scales(scales);
    out.half1 = load_half_scales(scales + 16);
  } else if constexpr (kScales.integers == 2) {
    out.scale = mul(out.scale, to_float(load_u8_rows(scales)));
    out.offset =
        mul(load_half(super + 32), mul(to_float(load_u8_rows(scales + 16)), broadcast(-1.0F)));
  } else if constexpr (kScales.integers == 1) {
    const Floats less_bias =
        sub(to_float(load_u8_rows(scales)), broadcast(static_cast<float>(kScales.bias)));
    out.scale = mul(out.scale, less_bias);
  } else if constexpr (kScales.halves == 2) {
    out.offset = load_half(scales + 32);
  }
  if constexpr (kPacking == Packing::kQ6Top) out.scale = mul(out.scale, broadcast(0.5F));
  if constexpr (kPacking == Packing::kQ8Top) {
    out.offset = mul(out.scale, broadcast(7.5F));
    out.scale = mul(out.scale, broadcast(16.0F));
  }
  return out;
}

template <Packing kPacking>
inline constexpr std::size_t kPlainBlock = plain_block_bytes(packed_traits(kPacking));

template <Packing kPacking, class Blocks>
void unpack_panel(const Blocks& panel, int blocks, std::uint8_t* scratch) {
  for (int b = 0; b < blocks; ++b, scratch += kPlainBlock<kPacking>) {
    const auto groups = panel.groups(b);
    store_group(scratch, groups.template get<0>());
    store_group(scratch + 64, groups.template get<1>());
    store_group(scratch + 128, groups.template get<2>());
    store_group(scratch + 192, groups.template get<3>());
    store_group(scratch + 256, groups.template get<4>());
    store_group(scratch + 320, groups.template get<5>());
    store_group(scratch + 384, groups.template get<6>());
    store_group(scratch + 448, groups.template get<7>());
    const BlockScales s = panel.scales(b);
    auto* floats = reinterpret_cast<float*>(scratch + kPlainScales);
    store(floats, s.scale);
    if constexpr (packed_traits(kPacking).scheme == Scheme::kAffine) store(floats + 16, s.offset);
    if constexpr (packed_traits(kPacking).scheme == Scheme::kHalfScaled) {
      store_int(reinterpret_cast<std::int32_t*>(floats + 16), s.half0);
      store_int(reinterpret_cast<std::int32_t*>(floats + 32), s.half1);
    }
    if constexpr (packed_traits(kPacking).scheme == Scheme::kHalfAffine) {
      auto* ints = reinterpret_cast<std::int32_t*>(floats + 32);
      store(floats + 16, s.offset);
      store_int(ints, s.half0);
      store_int(ints + 16, s.half1);
      store_int(ints + 32, s.minimum0);
      store_int(ints + 48, s.minimum1);
    }
  }
}

template <Packing kPacking>
LAPIDARY_INLINE BlockScales read_plain_scales(const std::uint8_t* block) {
  BlockScales out{};
  const auto* floats = reinterpret_cast<const float*>(block + kPlainScales);
  out.scale = load(floats);
  if constexpr (packed_traits(kPacking).scheme == Scheme::kAffine) out.offset = load(floats + 16);
  if constexpr (packed_traits(kPacking).scheme == Scheme::kHalfScaled) {
    out.half0 = load_int(reinterpret_cast<const std::int32_t*>(floats + 16));
    out.half1 = load_int(reinterpret_cast<const std::int32_t*>(floats + 32));
  }
  if constexpr (packed_traits(kPacking).scheme == Scheme::kHalfAffine) {
    const auto* ints = reinterpret_cast<const std::int32_t*>(floats + 32);
    out.offset = load(floats + 16);
    out.half0 = load_int(ints);
    out.half1 = load_int(ints + 16);
    out.minimum0 = load_int(ints + 32);
    out.minimum1 = load_int(ints + 48);
  }
  return out;
}

// The blocks of a panel as they are packed, and unpacked in scratch.
template <Packing kPacking>
struct PackedBlocks {
  const std::uint8_t* panel;
  LAPIDARY_INLINE PackedGroups<kPacking> groups(int block) const {
    return {panel + block_offset(packed_traits(kPacking), block)};
  }
  LAPIDARY_INLINE BlockScales scales(int block) const {
    prefetch_ahead(panel + block_offset(packed_traits(kPacking), block),
                   packed_traits(kPacking).block_bytes());
    return read_scales<kPacking>(panel, block);
  }
};

template <Packing kPacking>
struct PlainBlocks {
  const std::uint8_t* scratch;
  LAPIDARY_INLINE const std::uint8_t* at(int block) const {
    return scratch + static_cast<std::size_t>(block) * kPlainBlock<kPacking>;
  }
  LAPIDARY_INLINE PlainGroups groups(int block) const { return {at(block)}; }
  LAPIDARY_INLINE BlockScales scales(int block) const {
    return read_plain_scales<kPacking>(at(block));
  }
};
