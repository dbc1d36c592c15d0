#pragma once

#include "kernels/kernels.h"

/// The packed layouts. A panel holds kPanelRows rows; along k it is a row of blocks of 32 values.
/// In a block, "group" g is the values k = 4g … 4g+3, and 64 bytes are 16 rows × 4 k: the byte of
/// (row, k) is 4 · row + (k mod 4). Stored integers lie, by their bits, in
///
///   2  128 bytes: bits 2(g mod 4) of a byte of plane g / 4 are group g
///   3  the same, and 64 bytes: bit g of a byte is the third bit of group g; or, of a grid, 128
///      bytes: byte 16g + row is the number of group g's entry, and then bit g is group g's sign
///   4  256 bytes: byte plane j (0 … 3) holds group j in its low and group j+4 in its high nibbles
///   5  the same, and 64 bytes: bit g of a byte is the fifth bit of group g
///   6  the same as 4, and 128 bytes: bits 2(g mod 4) of a byte of plane g / 4 are the upper two
///      bits of group g
///   8  512 bytes: group g's values as int8
///
/// Behind them lie the scales of the 16 rows (Scales in formats/blocks.h): 16-bit scales, then
/// offsets; or s of all rows, then m, or the second s. Where 256 values share fp16 scales (and
/// minima), those lie in front of their eight blocks; and behind them, where scales are nibbles,
/// four times 16 bytes, each with the nibbles of two blocks. BF16 lies as [k / 2][row][k mod 2],
/// F16 as [k][row].
namespace lapidary::kernels {

enum class Scheme : std::uint8_t {
  kSymmetric,   // scale · (q - bias)
  kAffine,      // scale · q + offset, offset = -minimum
  kHalfScaled,  // scale · s_half · (step · q - bias): an int8 scale for each half of a block
  kHalfAffine,  // scale · s_half · q + offset · m_half, offset = -minimum
};

/// What a product with such scales is.
constexpr Scheme scheme_of(const Scales& scales) {
  if (scales.form == ScaleForm::kPairs) return Scheme::kHalfAffine;
  if (scales.halves == 2 || scales.form == ScaleForm::kShifts) return Scheme::kAffine;
  return scales.integers == 2 ? Scheme::kHalfScaled : Scheme::kSymmetric;
}

struct PackedTraits {
  BlockScheme stored = {};
  Scheme scheme = Scheme::kSymmetric;
  int step = 1;

  constexpr int bits() const { return stored.bits; }
  constexpr int bias() const { return stored.bias; }
  constexpr const Scales& scales() const { return stored.scales; }
  constexpr bool takes_bytes() const { return stored.takes_bytes(); }
  /// Bits of what a product's groups hold: 8 where those are signed bytes without a bias.
  constexpr int group_bits() const { return stored.grid != nullptr ? 8 : bits(); }
  constexpr bool has_half_scales() const {
    return scheme == Scheme::kHalfScaled || scheme == Scheme::kHalfAffine;
  }
  constexpr int quant_bytes() const { return bits() * 64; }
  /// Bytes of scales in a block, and in front of each 256 values; 0: these have none.
  constexpr int scale_bytes() const {
    if (scales().nibbles()) return 0;
    return kPanelRows * (scales().integers == 0 ? 2 * scales().halves : scales().integers);
  }
  constexpr int super_header() const {
    if (scales().integers == 0) return 0;
    return kPanelRows * (2 * scales().halves + (scales().nibbles() ? 4 : 0));
  }
  constexpr int block_bytes() const { return quant_bytes() + scale_bytes(); }
};

/// The packings that no file has: planes of the head (split.h).
struct PlanePacking {
  Packing packing;
  PackedTraits traits;
};
inline constexpr PlanePacking kPlaneTraits[] = {
    {Packing::kQ8Split, {{8, 0, kHalfScale}, Scheme::kSymmetric}},
    {Packing::kQ8Top, {{4, 8, kHalfScale}, Scheme::kAffine}},    // 16 · (top - 8) + 7.5
    {Packing::kQ8Top5, {{5, 16, kHalfScale}, Scheme::kAffine}},  // 8 · (top - 16) + 3.5
    {Packing::kQ6Split, {{6, 32, kSuperHalves}, Scheme::kHalfScaled}},
    // 4 · (top - 8) + 1.5, as integers: the scale is half of Q6_K's.
    {Packing::kQ6Top, {{4, 61, kSuperHalves}, Scheme::kHalfScaled, 8}},
};

/// The traits of all packings; BF16 and F16 have no bits of blocks.
struct PackedTraitsTable {
  PackedTraits of[static_cast<int>(Packing::kCount)];

  constexpr PackedTraitsTable() : of() {
    for (const BlockTraits& type : kBlockTraits) {
      if (type.read == nullptr) continue;
      of[static_cast<int>(type.packing)] = {type.scheme, scheme_of(type.scheme.scales)};
    }
    for (const PlanePacking& plane : kPlaneTraits)
      of[static_cast<int>(plane.packing)] = plane.traits;
  }
  constexpr bool is_complete() const {
    for (int p = 0; p < static_cast<int>(Packing::kCount); ++p) {
      if (is_quantized(static_cast<Packing>(p)) != (of[p].bits() > 0)) return false;
    }
    return true;
  }
};
inline constexpr PackedTraitsTable kPackedTraits;
static_assert(kPackedTraits.is_complete(), "a packing is in no list");

constexpr const PackedTraits& packed_traits(Packing packing) {
  return kPackedTraits.of[static_cast<int>(packing)];
}

/// Bytes that `blocks` blocks take with their headers.
constexpr std::size_t blocks_bytes(const PackedTraits& traits, int blocks) {
  const auto b = static_cast<std::size_t>(blocks);
  return b * static_cast<std::size_t>(traits.block_bytes()) +
         b / 8 * static_cast<std::size_t>(traits.super_header());
}

/// Where block `block` of a panel begins.
constexpr std::size_t block_offset(const PackedTraits& traits, int block) {
  return blocks_bytes(traits, block) + static_cast<std::size_t>(traits.super_header());
}

/// Where, in the header of the 256 values, the bytes with a block's nibbles begin.
constexpr std::size_t nibbles_offset(const PackedTraits& traits, int block) {
  return static_cast<std::size_t>(kPanelRows * (2 * traits.scales().halves + block % 8 / 2));
}

/// Where the header of the 256 values that `block` belongs to begins.
constexpr std::size_t super_offset(const PackedTraits& traits, int block) {
  return block_offset(traits, block / 8 * 8) - static_cast<std::size_t>(traits.super_header());
}

/// A block that a product has unpacked in scratch: its values, and behind them the scales, and
/// offsets or half scales and half minima.
inline constexpr std::size_t kPlainScales = 64 * 8;
constexpr std::size_t plain_block_bytes(const PackedTraits& traits) {
  switch (traits.scheme) {
    case Scheme::kSymmetric:
      return kPlainScales + 64;
    case Scheme::kAffine:
      return kPlainScales + 64 + 64;
    case Scheme::kHalfScaled:
      return kPlainScales + 64 + 128;
    case Scheme::kHalfAffine:
      return kPlainScales + 64 + 64 + 256;
  }
  return 0;
}

/// What matmul_scratch_bytes has room for.
inline constexpr int kMostPlainPanels = 2;
constexpr std::size_t most_plain_block_bytes() {
  std::size_t most = 0;
  for (int p = 0; p < static_cast<int>(Packing::kCount); ++p) {
    const std::size_t bytes = plain_block_bytes(packed_traits(static_cast<Packing>(p)));
    if (bytes > most) most = bytes;
  }
  return most;
}

/// Reads block `block` (of 32 values) of a row of quantised blocks that begins at `row`; false when
/// a scale is not finite. Inline, since it is a few moves of bytes where the type is known.
inline bool read_file_block(const BlockTraits& type, const std::uint8_t* row, int block,
                            FileBlock& out) {
  const int parts = static_cast<int>(type.values / kBlock);
  const std::uint8_t* p = row + static_cast<std::size_t>(block / parts) * type.bytes;
  type.read(p, block % parts, out);
  const Scales& scales = type.scheme.scales;
  const std::uint8_t* halves = scales.integers == 0 ? out.scales : out.header;
  if (scales.form == ScaleForm::kBrain) return load_u16(halves) < kEndOfMxScales;
  bool finite = true;
  for (int i = 0; i < scales.halves; ++i) finite &= is_finite_half(load_u16(halves + 2 * i));
  return finite;
}

/// One row's share of one block, in plain numbers.
struct RowBlock {
  int values[kBlock];  // step · q - bias, times the half's scale where halves have one.
  float scale;
  float offset;     // Added to every value: -minimum, or 0; times …
  int minimums[2];  // … these, for the two halves: 1 but for kHalfAffine.
};
void read_row_block(Packing packing, const std::byte* panel, int block, int row, RowBlock& out);

}  // namespace lapidary::kernels
