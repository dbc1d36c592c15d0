#pragma once

#include "kernels/kernels.h"

/// The packed layouts. A panel holds kPanelRows rows; along k it is a row of blocks of 32 values.
/// In a block, "group" g is the values k = 4g … 4g+3, and 64 bytes are 16 rows × 4 k: the byte of
/// (row, k) is 4 · row + (k mod 4).
///
///   nibbles  256 bytes: byte plane j (0 … 3) holds group j in its low and group j+4 in its high
///   nibbles fifth    64 bytes: bit g of a byte is the fifth bit of group g (5-bit packings) upper
///   128 bytes: bits 2(g mod 4) of a byte of plane g / 4 are the upper two bits of group g (6-bit)
///   bytes    512 bytes: group g's values as int8 (8-bit)
///
/// then the scales of the 16 rows: fp16 (Q4_0, Q5_0, Q8_0), fp16 scale and fp16 minimum (Q4_1,
/// Q5_1), uint8 scale and uint8 minimum (Q4_K, Q5_K), or int8 scales of the block's halves (Q6_K).
/// K packings put the fp16 scales (and minima) of 256 values in front of their eight blocks. BF16
/// lies as [k / 2][row][k mod 2], F16 as [k][row].
namespace lapidary::kernels {

enum class Scheme : std::uint8_t {
  kSymmetric,   // scale · (q - bias)
  kAffine,      // scale · q + offset, offset = -minimum
  kHalfScaled,  // scale · s_half · (step · q - bias): an int8 scale for each half of a block
};

struct PackedTraits {
  int bits;
  int bias;
  Scheme scheme;
  int super_header;  // Bytes in front of each 256 values; 0: no superblocks.
  int scale_bytes;   // Bytes of scales in a block.
  int step = 1;

  constexpr int quant_bytes() const { return bits * 64; }
  constexpr int block_bytes() const { return quant_bytes() + scale_bytes; }
};

constexpr PackedTraits packed_traits(Packing packing) {
  switch (packing) {
    case Packing::kQ4_0:
      return {4, 8, Scheme::kSymmetric, 0, 32};
    case Packing::kQ4_1:
      return {4, 0, Scheme::kAffine, 0, 64};
    case Packing::kQ5_0:
      return {5, 16, Scheme::kSymmetric, 0, 32};
    case Packing::kQ5_1:
      return {5, 0, Scheme::kAffine, 0, 64};
    case Packing::kQ8_0:
      return {8, 0, Scheme::kSymmetric, 0, 32};
    case Packing::kQ4_K:
      return {4, 0, Scheme::kAffine, 64, 32};
    case Packing::kQ5_K:
      return {5, 0, Scheme::kAffine, 64, 32};
    case Packing::kQ6_K:
    case Packing::kQ6Split:  // Its layout is split.h's.
      return {6, 32, Scheme::kHalfScaled, 32, 32};
    case Packing::kQ8Split:  // Its layout is split.h's.
      return {8, 0, Scheme::kSymmetric, 0, 32};
    case Packing::kQ8Top:  // 16 · (top - 8) + 7.5
      return {4, 8, Scheme::kAffine, 0, 32};
    case Packing::kQ8Top5:  // 8 · (top - 16) + 3.5
      return {5, 16, Scheme::kAffine, 0, 32};
    case Packing::kQ6Top:  // 4 · (top - 8) + 1.5, as integers: the scale is half of Q6_K's.
      return {4, 61, Scheme::kHalfScaled, 32, 32, 8};
    case Packing::kBF16:  // They have no blocks.
    case Packing::kF16:
    case Packing::kCount:
      break;
  }
  return {16, 0, Scheme::kSymmetric, 0, 0};
}

/// Bytes that `blocks` blocks take with their headers.
constexpr std::size_t blocks_bytes(const PackedTraits& traits, int blocks) {
  const auto b = static_cast<std::size_t>(blocks);
  return b * static_cast<std::size_t>(traits.block_bytes()) +
         b / 8 * static_cast<std::size_t>(traits.super_header);
}

/// Where block `block` of a panel begins.
constexpr std::size_t block_offset(const PackedTraits& traits, int block) {
  return blocks_bytes(traits, block) + static_cast<std::size_t>(traits.super_header);
}

/// Where the header of the 256 values that `block` belongs to begins.
constexpr std::size_t super_offset(const PackedTraits& traits, int block) {
  return block_offset(traits, block / 8 * 8) - static_cast<std::size_t>(traits.super_header);
}

/// A block that a product has unpacked in scratch: its values, and behind them the scales, and
/// offsets or half scales.
inline constexpr std::size_t kPlainScales = 64 * 8;
constexpr std::size_t plain_block_bytes(const PackedTraits& traits) {
  switch (traits.scheme) {
    case Scheme::kSymmetric:
      return kPlainScales + 64;
    case Scheme::kAffine:
      return kPlainScales + 64 + 64;
    case Scheme::kHalfScaled:
      return kPlainScales + 64 + 128;
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

/// One block of one row as the file holds it: unsigned values, and the scales as they go into the
/// packed form.
struct FileBlock {
  std::uint8_t q[kBlock];
  std::uint8_t scales[4];  // What this row adds to the block's scale area.
  std::uint8_t header[4];  // The same for the superblock's header.
};
/// Reads block `block` of a row that begins at `row`; false when a scale is not finite.
bool read_file_block(Packing packing, const std::uint8_t* row, int block, FileBlock& out);

/// One row's share of one block, in plain numbers.
struct RowBlock {
  int values[kBlock];  // step · q - bias, times the half's scale for kHalfScaled.
  float scale;
  float offset;  // Added to every value: -minimum, or 0.
};
void read_row_block(Packing packing, const std::byte* panel, int block, int row, RowBlock& out);

/// Value `k` of a row of F16, BF16 or F32.
float read_float(BlockType type, const std::byte* row, int k);

}  // namespace lapidary::kernels
