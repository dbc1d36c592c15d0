#pragma once

#include <cstddef>
#include <cstdint>

#include "formats/blocks.h"
#include "kernels/kernels.h"
#include "kernels/pack.h"

/// Matrices in planes, so that a screened head can read the upper bits of every row and the rest of
/// a few (docs/numerics.md). All of a matrix's top panels come first, then all of its middle
/// panels, then all low panels.
///
/// Packing::kQ8Split: a weight is 16 · (top - 8) + low, both 0 … 15, times its block's scale.
/// Packing::kQ6Split: 4 · (top - 8) + low, top 0 … 15, low 0 … 3, times both of Q6_K's scales.
///
///   top panel   the blocks of 32, as pack.h lays out nibbles and scales: of kQ8Split with fp16
///               scales, of kQ6Split with int8 half scales and the fp16 scales of 256 values in
///               front. Behind them for each four blocks 64 bytes, the byte of (row, block) at
///               4 · row + (block mod 4); times the row's unit it is at least the length of what
///               the low plane adds to the block: scale · |low - 7.5| (1.5). Then the 16 units,
///               fp32.
///   middle      kQ8Split alone. For each block 64 bytes: bit g of a byte is the upper bit of `low`
///               of group g. Then bounds and units as before, of what the lower three bits add.
///   low panel   for each row, for each block, 16 bytes: byte j holds low of k = j in its low and
///               of k = j + 16 in its high nibble. Of kQ6Split 8 bytes: bits 2f and 2f + 1 of byte
///               4p + i hold low of k = 16p + 4f + i. Then for each row its scales: of kQ8Split the
///               fp16 scales of its blocks, of kQ6Split the half scales plus 128, 16 for 256
///               values, and the fp16 scales of these. Then the 16 rows' rests, fp32: at least the
///               length of row - planes.
namespace lapidary::kernels {

constexpr bool is_split(Packing packing) {
  return packing == Packing::kQ8Split || packing == Packing::kQ6Split;
}

struct SplitLayout {
  Packing packing;
  int blocks;  // Of a row.

  constexpr SplitLayout(Packing split, int columns) : packing(split), blocks(columns / kBlock) {}

  constexpr bool has_middle() const { return packing == Packing::kQ8Split; }
  /// Of the upper four bits, as a matrix of their own.
  constexpr Packing top_packing() const {
    return packing == Packing::kQ8Split ? Packing::kQ8Top : Packing::kQ6Top;
  }
  constexpr std::size_t count() const { return static_cast<std::size_t>(blocks); }
  constexpr int bound_groups() const { return (blocks + 3) / 4; }
  constexpr std::size_t bounds() const {
    return blocks_bytes(packed_traits(top_packing()), blocks);
  }
  constexpr std::size_t units() const {
    return bounds() + static_cast<std::size_t>(bound_groups()) * 64;
  }
  constexpr std::size_t top_bytes() const { return units() + kPanelRows * sizeof(float); }

  constexpr std::size_t middle_bounds() const { return count() * 64; }
  constexpr std::size_t middle_units() const {
    return middle_bounds() + static_cast<std::size_t>(bound_groups()) * 64;
  }
  constexpr std::size_t middle_bytes() const {
    return has_middle() ? middle_units() + kPanelRows * sizeof(float) : 0;
  }

  /// Bytes of a row's share of the low plane, and of its scales.
  constexpr std::size_t row_bytes() const {
    return count() * (packing == Packing::kQ8Split ? 16 : 8);
  }
  constexpr std::size_t scale_bytes() const {
    return count() * 2 + (packing == Packing::kQ8Split ? 0 : count() / 4);
  }
  constexpr std::size_t low_row(int row) const {
    return static_cast<std::size_t>(row) * row_bytes();
  }
  constexpr std::size_t row_scales(int row) const {
    return low_row(kPanelRows) + static_cast<std::size_t>(row) * scale_bytes();
  }
  constexpr std::size_t rests() const { return row_scales(kPanelRows); }
  constexpr std::size_t low_bytes() const { return rests() + kPanelRows * sizeof(float); }
};

/// What a byte of the bounds can hold: with ScreenInput's norms, sums of two products fit 16 bits.
inline constexpr int kBoundLevels = 127;
inline constexpr int kNormLevels = 63;

struct SplitPanels {
  std::byte* top;
  std::byte* middle;
  std::byte* low;
};

/// Packs kPanelRows rows as pack_panel does. Rows of Q6_K become kQ6Split, others kQ8Split: Q8_0 as
/// they are; F16, BF16 and F32 are rounded to 8 bits, and bounds and rests are those of the rows
/// that the file holds.
bool pack_split_panel(BlockType type, const std::byte* rows_data, std::size_t row_stride, int rows,
                      int columns, const SplitPanels& out);

/// One row's share of one block: all of it, and its upper five bits as kQ8Top5 reads them.
void read_split_block(const SplitLayout& layout, const std::byte* top, const std::byte* low,
                      int block, int row, RowBlock& out);
void read_top5_block(const std::byte* top, const std::byte* middle, int block, int row,
                     RowBlock& out);

/// The fp32 values of row `row` (0 … kPanelRows-1) of a panel.
void unpack_split_row(const SplitLayout& layout, const std::byte* top, const std::byte* low,
                      int row, float* out);

}  // namespace lapidary::kernels
