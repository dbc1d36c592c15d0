#include "kernels/split.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/pack.h"

namespace lapidary::kernels {
namespace {

using Byte = std::uint8_t;

/// A block of one row as the planes hold it.
struct SplitBlock {
  std::int8_t q[kBlock];
  std::uint16_t scale;  // fp16
  double rest;          // |row - scale · q|², 0 for Q8_0.
};

bool read_q8_block(const Byte* row, int block, SplitBlock& out) {
  constexpr const BlockTraits& kQ8 = *find_block_traits(BlockType::kQ8_0);
  FileBlock in;
  const bool finite = read_file_block(kQ8, row, block, in);
  std::memcpy(&out.scale, in.scales, 2);
  std::memcpy(out.q, in.q, kBlock);
  out.rest = 0.0;
  return finite;
}

/// The smallest fp16 that is not below `value`, 0 to 65,504.
std::uint16_t half_above(float value) {
  if (value < 0x1p-14F) return static_cast<std::uint16_t>(std::ceil(value * 0x1p24F));
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits >> 13) - (112U << 10) + ((bits & 0x1FFFU) != 0 ? 1 : 0));
}

/// Rounds fp32 values to 8 bits; the scale is rounded up, so that none exceeds 127.
bool round_block(const float* x, SplitBlock& out) {
  float largest = 0.0F;
  for (int k = 0; k < kBlock; ++k) {
    if (!std::isfinite(x[k])) return false;
    largest = std::max(largest, std::fabs(x[k]));
  }
  if (largest / 127.0F > 65504.0F) return false;
  out.scale = half_above(largest / 127.0F);
  const float scale = half_to_float(out.scale);
  out.rest = 0.0;
  for (int k = 0; k < kBlock; ++k) {
    const float level = scale > 0.0F ? std::nearbyint(x[k] / scale) : 0.0F;
    out.q[k] = static_cast<std::int8_t>(std::clamp(level, -127.0F, 127.0F));
    const double rest = x[k] - double{scale} * out.q[k];
    out.rest += rest * rest;
  }
  return true;
}

bool read_block(BlockType type, const Byte* row, int block, SplitBlock& out) {
  if (type == BlockType::kQ8_0) return read_q8_block(row, block, out);
  float values[kBlock];
  for (int k = 0; k < kBlock; ++k)
    values[k] = read_float(type, reinterpret_cast<const std::byte*>(row), block * kBlock + k);
  return round_block(values, out);
}

struct Planes {
  Byte* top;
  Byte* middle;
  Byte* low;
};

int sum_of_squares(const std::int16_t* values) {
  int sum = 0;
  for (int k = 0; k < kBlock; ++k) sum += values[k] * values[k];
  return sum;
}

/// Of sixteen bytes of two nibbles each: the squares of twice their distances from the middle of
/// what they can be, summed, with all four bits unknown and with the lower three.
struct NibbleSquares {
  int four, three;

  explicit NibbleSquares(const Byte* low) {
    std::int16_t distances4[kBlock], distances3[kBlock];
    for (int j = 0; j < 16; ++j) {
      const int first = low[j] & 15, second = low[j] >> 4;
      distances4[j] = static_cast<std::int16_t>(2 * first - 15);
      distances4[j + 16] = static_cast<std::int16_t>(2 * second - 15);
      distances3[j] = static_cast<std::int16_t>(2 * (first & 7) - 7);
      distances3[j + 16] = static_cast<std::int16_t>(2 * (second & 7) - 7);
    }
    four = sum_of_squares(distances4);
    three = sum_of_squares(distances3);
  }
};

/// Of the four fields of two bits in a byte: the squares of twice their distances from 1.5, summed.
struct TwoBitSquares {
  std::uint8_t sum[256];

  constexpr TwoBitSquares() : sum() {
    for (int byte = 0; byte < 256; ++byte) {
      for (int shift = 0; shift < 8; shift += 2) {
        const int twice = 2 * (byte >> shift & 3) - 3;
        sum[byte] = static_cast<std::uint8_t>(sum[byte] + twice * twice);
      }
    }
  }
};
constexpr TwoBitSquares kTwoBitSquares;

/// Four bytes at a time: groups of four k, whose bytes are w + 128.
void write_block(const SplitBlock& in, const SplitLayout& layout, int row, int block,
                 const Planes& planes) {
  constexpr std::uint32_t kLow = 0x0F0F0F0F, kHigh = 0xF0F0F0F0, kBit = 0x01010101;
  const auto b = static_cast<std::size_t>(block);
  Byte* plane = planes.top + block_offset(packed_traits(Packing::kQ8Top), block);
  Byte* bytes = planes.low + layout.low_row(row) + b * 16;
  std::uint32_t groups[8], bits = 0;
  std::memcpy(groups, in.q, sizeof groups);
  for (unsigned g = 0; g < 8; ++g) {
    groups[g] ^= 0x80808080U;
    bits |= (groups[g] >> 3 & kBit) << g;
  }
  for (std::size_t p = 0; p < 4; ++p) {
    const std::uint32_t upper = (groups[p] >> 4 & kLow) | (groups[p + 4] & kHigh);
    const std::uint32_t lower = (groups[p] & kLow) | (groups[p + 4] << 4 & kHigh);
    std::memcpy(plane + 64 * p + 4 * row, &upper, 4);
    std::memcpy(bytes + 4 * p, &lower, 4);
  }
  std::memcpy(planes.middle + b * 64 + 4 * row, &bits, 4);
  std::memcpy(plane + 256 + 2 * row, &in.scale, 2);
  std::memcpy(planes.low + layout.row_scales(row) + 2 * b, &in.scale, 2);
}

/// A float that is not below `value`, with room for the roundings on the way to it.
float above(float value) { return value * (1.0F + 1e-6F); }

/// The upper four bits of value `k` of a row in a block of a top panel.
int top_nibble(const Byte* block, int row, int k) {
  return block[64 * (k / 4 % 4) + 4 * row + k % 4] >> (k < 16 ? 0 : 4) & 15;
}

constexpr int kMostBlocks = 65536 / kBlock;  // Of a row: models have at most 65,536 columns.

void store_float(Byte* floats, int row, float value) {
  std::memcpy(floats + sizeof(float) * static_cast<std::size_t>(row), &value, sizeof value);
}

/// Lengths of a row's blocks, rounded up to levels of a unit of the row's own.
struct RowBounds {
  float lengths[kMostBlocks];

  void write(const SplitLayout& layout, int row, Byte* bounds, Byte* units) const {
    const float unit = above(*std::max_element(lengths, lengths + layout.blocks) / kBoundLevels);
    store_float(units, row, unit);
    int levels[kMostBlocks];
    for (int b = 0; b < layout.blocks; ++b) {
      const float ratio = unit > 0 ? lengths[b] / unit : 0.0F;
      const int below = static_cast<int>(ratio);
      levels[b] = std::min(below + (static_cast<float>(below) < ratio ? 1 : 0), kBoundLevels);
    }
    for (int b = 0; b < layout.blocks; ++b)
      bounds[64 * (b / 4) + 4 * row + b % 4] = static_cast<Byte>(levels[b]);
  }
};

/// What the blocks of a row lack without the low plane, and without its lower three bits. Never
/// below scale · |low - 7.5| (3.5), which is what roundings are measured by.
struct RowRests {
  int squares4[kMostBlocks], squares3[kMostBlocks];
  float halves[kMostBlocks], rests[kMostBlocks];

  void set(int block, const SplitBlock& in, const Byte* low) {
    const NibbleSquares squares(low);
    squares4[block] = squares.four;
    squares3[block] = squares.three;
    halves[block] = std::fabs(half_to_float(in.scale)) / 2;
    rests[block] = in.rest > 0.0 ? static_cast<float>(std::sqrt(in.rest)) : 0.0F;
  }
  void measure(int blocks, RowBounds& four, RowBounds& three) const {
    for (int b = 0; b < blocks; ++b) {
      const auto length = [&](int squares) {
        return above(halves[b] * std::sqrt(static_cast<float>(squares)) + rests[b]);
      };
      four.lengths[b] = length(squares4[b]);
      three.lengths[b] = length(squares3[b]);
    }
  }
};

bool pack_row(BlockType type, const Byte* data, const SplitLayout& layout, int row,
              const Planes& planes) {
  SplitBlock block;
  RowRests rests;
  RowBounds four, three;
  double rest = 0.0;
  for (int b = 0; b < layout.blocks; ++b) {
    if (!read_block(type, data, b, block)) return false;
    write_block(block, layout, row, b, planes);
    rests.set(b, block, planes.low + layout.low_row(row) + 16 * static_cast<std::size_t>(b));
    rest += block.rest;
  }
  rests.measure(layout.blocks, four, three);
  four.write(layout, row, planes.top + layout.bounds(), planes.top + layout.units());
  three.write(layout, row, planes.middle + layout.middle_bounds(),
              planes.middle + layout.middle_units());
  store_float(planes.low + layout.rests(), row, above(static_cast<float>(std::sqrt(rest))));
  return true;
}

/// As write_block; the bytes of a group are q, 0 … 63.
void write_two_bit_block(const FileBlock& in, const SplitLayout& layout, int row, int block,
                         const Planes& planes) {
  constexpr PackedTraits kTop = packed_traits(Packing::kQ6Top);
  constexpr std::uint32_t kTwoBits = 0x03030303, kNibble = 0x0F0F0F0F;
  const auto b = static_cast<std::size_t>(block), r = static_cast<std::size_t>(row);
  Byte* plane = planes.top + block_offset(kTop, block);
  std::uint32_t groups[8], lower[2] = {};
  std::memcpy(groups, in.q, sizeof groups);
  for (unsigned g = 0; g < 8; ++g) lower[g / 4] |= (groups[g] & kTwoBits) << 2 * (g % 4);
  for (std::size_t p = 0; p < 4; ++p) {
    const std::uint32_t upper = (groups[p] >> 2 & kNibble) | (groups[p + 4] >> 2 & kNibble) << 4;
    std::memcpy(plane + 64 * p + 4 * r, &upper, 4);
  }
  std::memcpy(planes.low + layout.low_row(row) + 8 * b, lower, sizeof lower);
  Byte* scales = planes.low + layout.row_scales(row);
  for (std::size_t half = 0; half < 2; ++half) {
    plane[256 + 16 * half + r] = in.scales[half];
    scales[2 * b + half] = in.scales[half] ^ 0x80U;  // int8 plus 128.
  }
  std::memcpy(planes.top + super_offset(kTop, block) + 2 * r, in.header, 2);
  std::memcpy(scales + 2 * layout.count() + b / 8 * 2, in.header, 2);
}

/// The length of what a block lacks without the low plane.
float two_bit_length(const FileBlock& in, const Byte* low) {
  int squares = 0;
  for (int half = 0; half < 2; ++half) {
    const int scale = static_cast<std::int8_t>(in.scales[half]);
    for (int i = 0; i < 4; ++i) squares += scale * scale * kTwoBitSquares.sum[low[4 * half + i]];
  }
  return above(std::fabs(read_half(in.header)) / 2 * std::sqrt(static_cast<float>(squares)));
}

bool pack_two_bit_row(const Byte* data, const SplitLayout& layout, int row, const Planes& planes) {
  constexpr const BlockTraits& kQ6 = *find_block_traits(BlockType::kQ6_K);
  FileBlock block;
  RowBounds bounds;
  for (int b = 0; b < layout.blocks; ++b) {
    if (!read_file_block(kQ6, data, b, block)) return false;
    write_two_bit_block(block, layout, row, b, planes);
    bounds.lengths[b] = two_bit_length(block, planes.low + layout.low_row(row) + 8 * b);
  }
  bounds.write(layout, row, planes.top + layout.bounds(), planes.top + layout.units());
  return true;
}

}  // namespace

bool pack_split_panel(BlockType type, const std::byte* rows_data, std::size_t row_stride, int rows,
                      int columns, const SplitPanels& out) {
  const bool two_bits = type == BlockType::kQ6_K;
  const SplitLayout layout(two_bits ? Packing::kQ6Split : Packing::kQ8Split, columns);
  std::memset(out.top, 0, layout.top_bytes());
  if (layout.has_middle()) std::memset(out.middle, 0, layout.middle_bytes());
  std::memset(out.low, 0, layout.low_bytes());
  const Planes planes{reinterpret_cast<Byte*>(out.top), reinterpret_cast<Byte*>(out.middle),
                      reinterpret_cast<Byte*>(out.low)};
  const auto* data = reinterpret_cast<const Byte*>(rows_data);
  bool finite = true;
  for (int r = 0; r < rows; ++r) {
    const Byte* row = data + static_cast<std::size_t>(r) * row_stride;
    finite = (two_bits ? pack_two_bit_row(row, layout, r, planes)
                       : pack_row(type, row, layout, r, planes)) &&
             finite;
  }
  return finite;
}

void read_split_block(const SplitLayout& layout, const std::byte* top, const std::byte* low,
                      int block, int row, RowBlock& out) {
  const PackedTraits traits = packed_traits(layout.top_packing());
  const auto* panel = reinterpret_cast<const Byte*>(top);
  const Byte* plane = panel + block_offset(traits, block);
  const Byte* bytes = reinterpret_cast<const Byte*>(low) + layout.low_row(row) +
                      layout.row_bytes() / layout.count() * static_cast<std::size_t>(block);
  const bool two_bits = layout.packing == Packing::kQ6Split;
  for (int k = 0; k < kBlock; ++k) {
    const int upper = top_nibble(plane, row, k) - 8;
    if (two_bits) {
      const int lower = bytes[k / 16 * 4 + k % 4] >> 2 * (k / 4 % 4) & 3;
      const auto scale = static_cast<std::int8_t>(plane[256 + 16 * (k / 16) + row]);
      out.values[k] = scale * (4 * upper + lower);
    } else {
      out.values[k] = 16 * upper + (bytes[k % 16] >> (k < 16 ? 0 : 4) & 15);
    }
  }
  out.scale = read_half((two_bits ? panel + super_offset(traits, block) : plane + 256) + 2 * row);
  out.offset = 0.0F;
}

void read_top5_block(const std::byte* top, const std::byte* middle, int block, int row,
                     RowBlock& out) {
  const Byte* plane =
      reinterpret_cast<const Byte*>(top) + block_offset(packed_traits(Packing::kQ8Top), block);
  const Byte* bits = reinterpret_cast<const Byte*>(middle) + 64 * static_cast<std::size_t>(block);
  for (int k = 0; k < kBlock; ++k)
    out.values[k] = 2 * top_nibble(plane, row, k) + (bits[4 * row + k % 4] >> (k / 4) & 1) - 16;
  const float scale = read_half(plane + 256 + 2 * row);
  out.scale = 8.0F * scale;
  out.offset = 3.5F * scale;
}

void unpack_split_row(const SplitLayout& layout, const std::byte* top, const std::byte* low,
                      int row, float* out) {
  RowBlock block;
  for (int b = 0; b < layout.blocks; ++b, out += kBlock) {
    read_split_block(layout, top, low, b, row, block);
    for (int k = 0; k < kBlock; ++k) out[k] = block.scale * static_cast<float>(block.values[k]);
  }
}

}  // namespace lapidary::kernels
