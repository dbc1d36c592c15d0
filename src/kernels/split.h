#pragma once

#include <cstddef>
#include <cstdint>

#include "formats/blocks.h"
#include "kernels/kernels.h"
#include "kernels/pack.h"

/// Packing::kQ8Split: 8-bit weights in planes, so that a screened head can read the upper four or
/// five bits of every row and the rest of a few (docs/numerics.md). A weight w of a block is
/// 16 · (top - 8) + low, both 0 … 15. All of a matrix's top panels come first, then all of its
/// middle panels, then all low panels.
///
///   top panel   for each block of 32: 256 bytes of top nibbles, as pack.h lays out nibbles, and
///               the fp16 scales of the 16 rows. Behind the blocks: for each four blocks 64 bytes,
///               the byte of (row, block) at 4 · row + (block mod 4); times the row's unit it is at
///               least the length of what the low plane adds to the block: scale · |low - 7.5|.
///               Then the 16 units, fp32.
///   middle      for each block 64 bytes: bit g of a byte is the upper bit of `low` of group g.
///               Then bounds and units as before, of what the lower three bits add.
///   low panel   for each row, for each block, 16 bytes: byte j holds low of k = j in its low and
///               of k = j + 16 in its high nibble. Then for each row the fp16 scales of its blocks,
///               and the 16 rows' rests, fp32: at least the length of row - planes.
namespace lapidary::kernels {

struct SplitLayout {
  int blocks;  // Of a row.

  explicit constexpr SplitLayout(int columns) : blocks(columns / kBlock) {}

  static constexpr std::size_t kTopBlock = 256 + 2 * kPanelRows;
  constexpr std::size_t count() const { return static_cast<std::size_t>(blocks); }
  constexpr int bound_groups() const { return (blocks + 3) / 4; }
  constexpr std::size_t bounds() const { return count() * kTopBlock; }
  constexpr std::size_t units() const {
    return bounds() + static_cast<std::size_t>(bound_groups()) * 64;
  }
  constexpr std::size_t top_bytes() const { return units() + kPanelRows * sizeof(float); }

  constexpr std::size_t middle_bounds() const { return count() * 64; }
  constexpr std::size_t middle_units() const {
    return middle_bounds() + static_cast<std::size_t>(bound_groups()) * 64;
  }
  constexpr std::size_t middle_bytes() const { return middle_units() + kPanelRows * sizeof(float); }

  constexpr std::size_t low_row(int row) const {
    return static_cast<std::size_t>(row) * count() * 16;
  }
  constexpr std::size_t row_scales(int row) const {
    return low_row(kPanelRows) + static_cast<std::size_t>(row) * count() * 2;
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

/// Packs kPanelRows rows as pack_panel does. Q8_0 rows are kept as they are; F16, BF16 and F32 rows
/// are rounded to 8 bits, and bounds and rests are those of the rows that the file holds.
bool pack_split_panel(BlockType type, const std::byte* rows_data, std::size_t row_stride, int rows,
                      int columns, const SplitPanels& out);

/// One row's share of one block: all of it, and its upper five bits as kQ8Top5 reads them.
void read_split_block(const std::byte* top, const std::byte* low, const SplitLayout& layout,
                      int block, int row, RowBlock& out);
void read_top5_block(const std::byte* top, const std::byte* middle, int block, int row,
                     RowBlock& out);

/// The fp32 values of row `row` (0 … kPanelRows-1) of a panel.
void unpack_split_row(const std::byte* top, const std::byte* low, int row, int columns, float* out);

}  // namespace lapidary::kernels
