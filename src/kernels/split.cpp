#include "kernels/split.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/half.h"
#include "kernels/pack.h"

namespace lapidary::kernels {
namespace {

using Byte = std::uint8_t;

/// A block of one row: what the planes hold of it, and the lengths of what they lack.
struct SplitBlock {
  std::int8_t q[kBlock];
  std::uint16_t scale;   // fp16
  double without_low;    // |row - top plane|
  double without_three;  // |row - top and middle planes|
  double without_any;    // |row - both planes|², 0 for Q8_0.
};

int low_part(std::int8_t q) { return (q + 128) & 15; }
int top_part(std::int8_t q) { return (q + 128) >> 4; }

bool read_q8_block(const Byte* p, SplitBlock& out) {
  std::memcpy(&out.scale, p, 2);
  std::memcpy(out.q, p + 2, kBlock);
  int four = 0, three = 0;  // Squares of twice the distances from 7.5 and 3.5.
  for (const std::int8_t q : out.q) {
    const int u = 2 * low_part(q) - 15, v = 2 * (low_part(q) & 7) - 7;
    four += u * u;
    three += v * v;
  }
  const double scale = half_to_float(out.scale);
  out.without_low = std::fabs(scale) * std::sqrt(four) / 2;
  out.without_three = std::fabs(scale) * std::sqrt(three) / 2;
  out.without_any = 0.0;
  return std::isfinite(scale);
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
  double four = 0.0, three = 0.0;
  out.without_any = 0.0;
  for (int k = 0; k < kBlock; ++k) {
    const float level = scale > 0.0F ? std::nearbyint(x[k] / scale) : 0.0F;
    out.q[k] = static_cast<std::int8_t>(std::clamp(level, -127.0F, 127.0F));
    const double rest = x[k] - double{scale} * out.q[k];
    const double u = low_part(out.q[k]) - 7.5, v = (low_part(out.q[k]) & 7) - 3.5;
    out.without_any += rest * rest;
    four += u * u;
    three += v * v;
  }
  // Never below scale · |low - 7.5|, which is what roundings are measured by.
  out.without_low = double{scale} * std::sqrt(four) + std::sqrt(out.without_any);
  out.without_three = double{scale} * std::sqrt(three) + std::sqrt(out.without_any);
  return true;
}

bool read_block(BlockType type, const Byte* row, int block, SplitBlock& out) {
  if (type == BlockType::kQ8_0)
    return read_q8_block(row + static_cast<std::size_t>(block) * 34, out);
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

void write_block(const SplitBlock& in, const SplitLayout& layout, int row, int block,
                 const Planes& planes) {
  const auto b = static_cast<std::size_t>(block);
  Byte* plane = planes.top + b * SplitLayout::kTopBlock;
  Byte* bits = planes.middle + b * 64 + 4 * row;
  Byte* bytes = planes.low + layout.low_row(row) + b * 16;
  for (int j = 0; j < 16; ++j) {
    const std::int8_t q = in.q[j], r = in.q[j + 16];
    plane[64 * (j / 4) + 4 * row + j % 4] = static_cast<Byte>(top_part(q) | top_part(r) << 4);
    bytes[j] = static_cast<Byte>(low_part(q) | low_part(r) << 4);
    bits[j % 4] = static_cast<Byte>(bits[j % 4] | low_part(q) >> 3 << (j / 4) |
                                    low_part(r) >> 3 << (j / 4 + 4));
  }
  std::memcpy(plane + 256 + 2 * row, &in.scale, 2);
  std::memcpy(planes.low + layout.row_scales(row) + 2 * b, &in.scale, 2);
}

/// A float that is not below `value`, with room for the roundings on the way to it.
float above(double value) { return static_cast<float>(value * (1.0 + 1e-6)); }

float half_at(const Byte* p) {
  std::uint16_t half;
  std::memcpy(&half, p, 2);
  return half_to_float(half);
}

const Byte* top_block(const std::byte* top, int block) {
  return reinterpret_cast<const Byte*>(top) +
         static_cast<std::size_t>(block) * SplitLayout::kTopBlock;
}

/// The weights of one row in block `block`.
void read_row(const std::byte* top, const std::byte* low, const SplitLayout& layout, int block,
              int row, std::int8_t* q) {
  const Byte* plane = top_block(top, block);
  const Byte* bytes = reinterpret_cast<const Byte*>(low) + layout.low_row(row) +
                      16 * static_cast<std::size_t>(block);
  for (int j = 0; j < 16; ++j) {
    const Byte pair = plane[64 * (j / 4) + 4 * row + j % 4];
    q[j] = static_cast<std::int8_t>(16 * ((pair & 15) - 8) + (bytes[j] & 15));
    q[j + 16] = static_cast<std::int8_t>(16 * ((pair >> 4) - 8) + (bytes[j] >> 4));
  }
}

constexpr int kMostBlocks = 65536 / kBlock;  // Of a row: models have at most 65,536 columns.

void store_float(Byte* floats, int row, float value) {
  std::memcpy(floats + sizeof(float) * static_cast<std::size_t>(row), &value, sizeof value);
}

/// Lengths of a row's blocks, rounded up to levels of a unit of the row's own.
struct RowBounds {
  float lengths[kMostBlocks];
  float longest = 0.0F;

  void set(int block, double length) {
    lengths[block] = above(length);
    longest = std::max(longest, lengths[block]);
  }
  void write(const SplitLayout& layout, int row, Byte* bounds, Byte* units) const {
    const float unit = above(longest / kBoundLevels);
    store_float(units, row, unit);
    for (int b = 0; b < layout.blocks; ++b) {
      const float level = unit > 0 ? std::ceil(lengths[b] / unit) : 0.0F;
      bounds[64 * (b / 4) + 4 * row + b % 4] =
          static_cast<Byte>(std::min(level, static_cast<float>(kBoundLevels)));
    }
  }
};

bool pack_row(BlockType type, const Byte* data, const SplitLayout& layout, int row,
              const Planes& planes) {
  SplitBlock block;
  RowBounds four, three;
  double rest = 0.0;
  for (int b = 0; b < layout.blocks; ++b) {
    if (!read_block(type, data, b, block)) return false;
    write_block(block, layout, row, b, planes);
    four.set(b, block.without_low);
    three.set(b, block.without_three);
    rest += block.without_any;
  }
  four.write(layout, row, planes.top + layout.bounds(), planes.top + layout.units());
  three.write(layout, row, planes.middle + layout.middle_bounds(),
              planes.middle + layout.middle_units());
  store_float(planes.low + layout.rests(), row, above(std::sqrt(rest)));
  return true;
}

}  // namespace

bool pack_split_panel(BlockType type, const std::byte* rows_data, std::size_t row_stride, int rows,
                      int columns, const SplitPanels& out) {
  const SplitLayout layout(columns);
  std::memset(out.top, 0, layout.top_bytes());
  std::memset(out.middle, 0, layout.middle_bytes());
  std::memset(out.low, 0, layout.low_bytes());
  const Planes planes{reinterpret_cast<Byte*>(out.top), reinterpret_cast<Byte*>(out.middle),
                      reinterpret_cast<Byte*>(out.low)};
  const auto* data = reinterpret_cast<const Byte*>(rows_data);
  bool finite = true;
  for (int r = 0; r < rows; ++r) {
    const Byte* row = data + static_cast<std::size_t>(r) * row_stride;
    finite = pack_row(type, row, layout, r, planes) && finite;
  }
  return finite;
}

float read_top5_row(const std::byte* top, const std::byte* middle, int block, int row, int* out) {
  const Byte* plane = top_block(top, block);
  const Byte* bits = reinterpret_cast<const Byte*>(middle) + 64 * static_cast<std::size_t>(block);
  for (int k = 0; k < kBlock; ++k) {
    const int group = k / 4, at = 4 * row + k % 4;
    const int upper = plane[64 * (group % 4) + at] >> (group < 4 ? 0 : 4) & 15;
    out[k] = 2 * upper + (bits[at] >> group & 1) - 16;
  }
  return half_at(plane + 256 + 2 * row);
}

void repack_split_panel(const std::byte* top, const std::byte* low, int columns, std::byte* out) {
  const SplitLayout layout(columns);
  constexpr PackedTraits kPlain = packed_traits(Packing::kQ8_0);
  std::int8_t q[kBlock];
  for (int b = 0; b < layout.blocks; ++b) {
    Byte* block = reinterpret_cast<Byte*>(out) + block_offset(kPlain, b);
    for (int row = 0; row < kPanelRows; ++row) {
      read_row(top, low, layout, b, row, q);
      for (int k = 0; k < kBlock; k += 4) std::memcpy(block + 16 * k + 4 * row, q + k, 4);
    }
    std::memcpy(block + kPlain.quant_bytes(), top_block(top, b) + 256, 2 * kPanelRows);
  }
}

void unpack_split_row(const std::byte* top, const std::byte* low, int row, int columns,
                      float* out) {
  const SplitLayout layout(columns);
  std::int8_t q[kBlock];
  for (int b = 0; b < layout.blocks; ++b, out += kBlock) {
    read_row(top, low, layout, b, row, q);
    const float scale = half_at(top_block(top, b) + 256 + 2 * row);
    for (int k = 0; k < kBlock; ++k) out[k] = scale * static_cast<float>(q[k]);
  }
}

}  // namespace lapidary::kernels
