#include "kernels/pack.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/half.h"
#include "kernels/split.h"

namespace lapidary::kernels {
namespace {

using Byte = std::uint8_t;

std::uint16_t load_u16(const Byte* p) {
  std::uint16_t value;
  std::memcpy(&value, p, 2);
  return value;
}

void store_u16(Byte* p, std::uint16_t value) { std::memcpy(p, &value, 2); }

bool finite_half(std::uint16_t half) { return (half & 0x7C00U) != 0x7C00U; }

void split_nibbles(const Byte* nibbles, Byte* q) {
  for (int i = 0; i < 16; ++i) {
    q[i] = nibbles[i] & 15U;
    q[i + 16] = static_cast<Byte>(nibbles[i] >> 4);
  }
}

/// Bit i of the word becomes bit 4 of q[i]; eight values at a time.
void add_fifth_bits(const Byte* bits, Byte* q) {
  constexpr std::uint64_t kEach = 0x0101010101010101, kOwn = 0x8040201008040201;
  for (std::size_t byte = 0; byte < 4; ++byte) {
    const std::uint64_t own = (bits[byte] * kEach) & kOwn;  // Byte i has only bit i left …
    std::uint64_t eight;
    std::memcpy(&eight, q + 8 * byte, 8);
    eight |= ((own + 0x7F * kEach) & (0x80 * kEach)) >> 3;  // … and is 0 or carries into bit 7.
    std::memcpy(q + 8 * byte, &eight, 8);
  }
}

/// Scale and minimum number j of the 6-bit pairs in the 12 bytes of Q4_K and Q5_K.
void k_scale(const Byte* s, int j, Byte* scale, Byte* minimum) {
  if (j < 4) {
    *scale = s[j] & 63U;
    *minimum = s[j + 4] & 63U;
  } else {
    *scale = static_cast<Byte>((s[j + 4] & 15U) | (s[j - 4] >> 6 & 3U) << 4);
    *minimum = static_cast<Byte>((s[j + 4] >> 4) | (s[j] >> 6 & 3U) << 4);
  }
}

void read_k_block(const Byte* super, int j, bool five_bits, FileBlock& out) {
  std::memcpy(out.header, super, 4);
  k_scale(super + 4, j, &out.scales[0], &out.scales[1]);
  const Byte* high = super + 16;
  const Byte* low = high + (five_bits ? 32 : 0) + j / 2 * 32;
  for (int i = 0; i < 32; ++i) {
    unsigned q = j % 2 == 0 ? low[i] & 15U : static_cast<unsigned>(low[i]) >> 4;
    if (five_bits) q |= (high[i] >> j & 1U) << 4;
    out.q[i] = static_cast<Byte>(q);
  }
}

void read_q6_block(const Byte* super, int j, FileBlock& out) {
  const Byte* low = super + j / 4 * 64 + j % 2 * 32;
  const Byte* high = super + 128 + j / 4 * 32;
  const unsigned low_shift = j % 4 < 2 ? 0 : 4;
  const unsigned high_shift = static_cast<unsigned>(j % 4) * 2;
  for (int i = 0; i < 32; ++i) {
    out.q[i] = static_cast<Byte>((low[i] >> low_shift & 15U) | ((high[i] >> high_shift & 3U) << 4));
  }
  out.scales[0] = super[192 + 2 * j];
  out.scales[1] = super[192 + 2 * j + 1];
  std::memcpy(out.header, super + 208, 2);
}

}  // namespace

bool read_file_block(Packing packing, const Byte* row, int block, FileBlock& out) {
  const auto b = static_cast<std::size_t>(block);
  switch (packing) {
    case Packing::kQ4_0:
    case Packing::kQ5_0: {
      const bool five = packing == Packing::kQ5_0;
      const Byte* p = row + b * (five ? 22 : 18);
      std::memcpy(out.scales, p, 2);
      split_nibbles(p + (five ? 6 : 2), out.q);
      if (five) add_fifth_bits(p + 2, out.q);
      return finite_half(load_u16(p));
    }
    case Packing::kQ4_1:
    case Packing::kQ5_1: {
      const bool five = packing == Packing::kQ5_1;
      const Byte* p = row + b * (five ? 24 : 20);
      std::memcpy(out.scales, p, 4);
      split_nibbles(p + (five ? 8 : 4), out.q);
      if (five) add_fifth_bits(p + 4, out.q);
      return finite_half(load_u16(p)) && finite_half(load_u16(p + 2));
    }
    case Packing::kQ8_0: {
      const Byte* p = row + b * 34;
      std::memcpy(out.scales, p, 2);
      std::memcpy(out.q, p + 2, 32);
      return finite_half(load_u16(p));
    }
    case Packing::kQ4_K:
    case Packing::kQ5_K: {
      const bool five = packing == Packing::kQ5_K;
      const Byte* p = row + b / 8 * (five ? 176 : 144);
      read_k_block(p, block % 8, five, out);
      return finite_half(load_u16(p)) && finite_half(load_u16(p + 2));
    }
    case Packing::kQ6_K: {
      const Byte* p = row + b / 8 * 210;
      read_q6_block(p, block % 8, out);
      return finite_half(load_u16(p + 208));
    }
    case Packing::kQ8Split:  // No file holds these.
    case Packing::kQ8Top:
    case Packing::kQ8Top5:
    case Packing::kQ6Split:
    case Packing::kQ6Top:
    case Packing::kBF16:
    case Packing::kF16:
    case Packing::kCount:
      break;
  }
  return false;
}

namespace {

/// Four bytes at a time: a word is a group of four k of one row.
void write_quants(const PackedTraits& traits, const FileBlock& in, int row, Byte* block) {
  constexpr std::uint32_t kNibble = 0x0F0F0F0F, kBit = 0x01010101, kPair = 0x03030303;
  Byte* words = block + 4 * row;
  std::uint32_t q[8];
  std::memcpy(q, in.q, sizeof q);
  if (traits.bits == 8) {
    for (std::size_t g = 0; g < 8; ++g) std::memcpy(words + 64 * g, q + g, 4);
    return;
  }
  for (std::size_t g = 0; g < 4; ++g) {
    const std::uint32_t both = (q[g] & kNibble) | (q[g + 4] & kNibble) << 4;
    std::memcpy(words + 64 * g, &both, 4);
  }
  if (traits.bits == 5) {
    std::uint32_t plane = 0;
    for (unsigned g = 0; g < 8; ++g) plane |= (q[g] >> 4 & kBit) << g;
    std::memcpy(words + 256, &plane, 4);
  }
  if (traits.bits == 6) {
    std::uint32_t planes[2] = {};
    for (unsigned g = 0; g < 8; ++g) planes[g / 4] |= (q[g] >> 4 & kPair) << 2 * (g % 4);
    for (std::size_t half = 0; half < 2; ++half)
      std::memcpy(words + 256 + 64 * half, planes + half, 4);
  }
}

void write_scales(Packing packing, const PackedTraits& traits, const FileBlock& in, int row,
                  Byte* block, Byte* super) {
  Byte* scales = block + traits.quant_bytes();
  switch (packing) {
    case Packing::kQ4_1:
    case Packing::kQ5_1:
      std::memcpy(scales + 2 * row, in.scales, 2);
      std::memcpy(scales + 32 + 2 * row, in.scales + 2, 2);
      break;
    case Packing::kQ4_K:
    case Packing::kQ5_K:
      scales[row] = in.scales[0];
      scales[16 + row] = in.scales[1];
      std::memcpy(super + 2 * row, in.header, 2);
      std::memcpy(super + 32 + 2 * row, in.header + 2, 2);
      break;
    case Packing::kQ6_K:
      scales[row] = in.scales[0];
      scales[16 + row] = in.scales[1];
      std::memcpy(super + 2 * row, in.header, 2);
      break;
    case Packing::kQ4_0:
    case Packing::kQ5_0:
    case Packing::kQ8_0:
      std::memcpy(scales + 2 * row, in.scales, 2);
      break;
    case Packing::kQ8Split:  // read_file_block has refused these.
    case Packing::kQ8Top:
    case Packing::kQ8Top5:
    case Packing::kQ6Split:
    case Packing::kQ6Top:
    case Packing::kBF16:
    case Packing::kF16:
    case Packing::kCount:
      break;
  }
}

/// Whether rows of `type` can be packed so.
bool can_pack(BlockType type, Packing packing) {
  if (type == BlockType::kF16 && packing == Packing::kBF16) return true;
  return packing != Packing::kCount && packing == packing_for(type, true);
}

bool pack_dense(Packing packing, BlockType type, const Byte* data, std::size_t row_stride, int rows,
                int columns, Byte* panel) {
  float largest = 0.0F;
  for (int r = 0; r < rows; ++r) {
    const Byte* row = data + static_cast<std::size_t>(r) * row_stride;
    for (int k = 0; k < columns; ++k) {
      const float value = read_float(type, reinterpret_cast<const std::byte*>(row), k);
      if (!std::isfinite(value)) return false;
      largest = std::max(largest, std::fabs(value));
      const auto pair = static_cast<std::size_t>(k / 2 * 32 + 2 * r + k % 2);
      const auto single = static_cast<std::size_t>(16 * k + r);
      if (packing == Packing::kF16) {
        store_u16(panel + 2 * single, load_u16(row + 2 * static_cast<std::size_t>(k)));
      } else {
        store_u16(panel + 2 * pair, float_to_bf16(value));
      }
    }
  }
  return largest < 3.38e38F;  // Rounding to bf16 must not reach infinity.
}

}  // namespace

float read_float(BlockType type, const std::byte* row, int k) {
  const Byte* value = reinterpret_cast<const Byte*>(row);
  const auto i = static_cast<std::size_t>(k);
  if (type == BlockType::kF16) return half_to_float(load_u16(value + 2 * i));
  if (type == BlockType::kBF16) return bf16_to_float(load_u16(value + 2 * i));
  float out;
  std::memcpy(&out, value + 4 * i, 4);
  return out;
}

std::size_t panel_bytes(Packing packing, int columns) {
  if (is_split(packing)) return SplitLayout(packing, columns).top_bytes();
  const PackedTraits traits = packed_traits(packing);
  if (!is_quantized(packing)) return static_cast<std::size_t>(columns) * kPanelRows * 2;
  return blocks_bytes(traits, columns / kBlock);
}

Packing packing_for(BlockType type, bool head) {
  switch (type) {
    case BlockType::kQ4_0:
      return Packing::kQ4_0;
    case BlockType::kQ4_1:
      return Packing::kQ4_1;
    case BlockType::kQ5_0:
      return Packing::kQ5_0;
    case BlockType::kQ5_1:
      return Packing::kQ5_1;
    case BlockType::kQ8_0:
      return Packing::kQ8_0;
    case BlockType::kQ4_K:
      return Packing::kQ4_K;
    case BlockType::kQ5_K:
      return Packing::kQ5_K;
    case BlockType::kQ6_K:
      return Packing::kQ6_K;
    case BlockType::kF16:
      return head ? Packing::kF16 : Packing::kBF16;
    case BlockType::kF32:
    case BlockType::kBF16:
      return Packing::kBF16;
  }
  return Packing::kCount;
}

bool pack_panel(Packing packing, BlockType type, const std::byte* rows_data, std::size_t row_stride,
                int rows, int columns, std::byte* panel) {
  const auto* data = reinterpret_cast<const Byte*>(rows_data);
  auto* out = reinterpret_cast<Byte*>(panel);
  if (!can_pack(type, packing)) return false;
  std::memset(out, 0, panel_bytes(packing, columns));
  if (!is_quantized(packing))
    return pack_dense(packing, type, data, row_stride, rows, columns, out);
  const PackedTraits traits = packed_traits(packing);
  bool finite = true;
  FileBlock block;
  for (int b = 0; b < columns / kBlock; ++b) {
    Byte* target = out + block_offset(traits, b);
    for (int r = 0; r < rows; ++r) {
      finite &= read_file_block(packing, data + static_cast<std::size_t>(r) * row_stride, b, block);
      write_quants(traits, block, r, target);
      write_scales(packing, traits, block, r, target, out + super_offset(traits, b));
    }
  }
  return finite;
}

void read_row_block(Packing packing, const std::byte* panel, int block, int row, RowBlock& out) {
  const PackedTraits traits = packed_traits(packing);
  const auto* base = reinterpret_cast<const Byte*>(panel);
  const Byte* p = base + block_offset(traits, block);
  const Byte* scales = p + traits.quant_bytes();
  const Byte* super = base + super_offset(traits, block);
  for (int k = 0; k < kBlock; ++k) {
    const int g = k / 4;
    const int lane = 4 * row + k % 4;
    if (traits.bits == 8) {
      out.values[k] = static_cast<std::int8_t>(p[64 * g + lane]);
      continue;
    }
    int q = p[64 * (g % 4) + lane] >> (g < 4 ? 0 : 4) & 15;
    if (traits.bits == 5) q |= (p[256 + lane] >> g & 1) << 4;
    if (traits.bits == 6) q |= (p[256 + 64 * (g / 4) + lane] >> (2 * (g % 4)) & 3) << 4;
    out.values[k] = traits.step * q - traits.bias;
    if (traits.scheme == Scheme::kHalfScaled)
      out.values[k] *= static_cast<std::int8_t>(scales[16 * (k / 16) + row]);
  }
  out.offset = 0.0F;
  if (packing == Packing::kQ4_K || packing == Packing::kQ5_K) {
    out.scale = half_to_float(load_u16(super + 2 * row)) * static_cast<float>(scales[row]);
    out.offset =
        -(half_to_float(load_u16(super + 32 + 2 * row)) * static_cast<float>(scales[16 + row]));
  } else if (packing == Packing::kQ6_K) {
    out.scale = half_to_float(load_u16(super + 2 * row));
  } else if (packing == Packing::kQ6Top) {
    out.scale = 0.5F * half_to_float(load_u16(super + 2 * row));
  } else if (packing == Packing::kQ8Top) {
    const float scale = half_to_float(load_u16(scales + 2 * row));
    out.scale = 16.0F * scale;
    out.offset = 7.5F * scale;
  } else {
    out.scale = half_to_float(load_u16(scales + 2 * row));
    if (traits.scheme == Scheme::kAffine)
      out.offset = half_to_float(load_u16(scales + 32 + 2 * row));
  }
}

void unpack_row(Packing packing, const std::byte* panel, int row, int columns, float* out) {
  const auto* p = reinterpret_cast<const Byte*>(panel);
  if (packing == Packing::kF16) {
    for (int k = 0; k < columns; ++k)
      out[k] = half_to_float(load_u16(p + 2 * static_cast<std::size_t>(16 * k + row)));
    return;
  }
  if (packing == Packing::kBF16) {
    for (int k = 0; k < columns; ++k) {
      out[k] =
          bf16_to_float(load_u16(p + 2 * static_cast<std::size_t>(k / 2 * 32 + 2 * row + k % 2)));
    }
    return;
  }
  RowBlock block;
  for (int b = 0; b < columns / kBlock; ++b) {
    read_row_block(packing, panel, b, row, block);
    for (int k = 0; k < kBlock; ++k) {
      out[b * kBlock + k] = block.scale * static_cast<float>(block.values[k]) + block.offset;
    }
  }
}

std::size_t matmul_scratch_bytes(int columns) {
  const auto blocks = static_cast<std::size_t>((columns + kBlock - 1) / kBlock);
  return kMostPlainPanels * blocks * most_plain_block_bytes();
}

}  // namespace lapidary::kernels
