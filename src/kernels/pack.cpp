#include "kernels/pack.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/half.h"

namespace lapidary::kernels {
namespace {

using Byte = std::uint8_t;

void store_u16(Byte* p, std::uint16_t value) { std::memcpy(p, &value, 2); }

/// Four bytes at a time: a word is a group of four k of one row.
template <int kBits>
void write_quants(const FileBlock& in, int row, Byte* block) {
  constexpr std::uint32_t kNibble = 0x0F0F0F0F, kBit = 0x01010101, kTwoBits = 0x03030303;
  Byte* words = block + 4 * row;
  std::uint32_t q[8];
  std::memcpy(q, in.q, sizeof q);
  if constexpr (kBits == 8) {
    for (std::size_t g = 0; g < 8; ++g) std::memcpy(words + 64 * g, q + g, 4);
    return;
  }
  if constexpr (kBits < 4) {
    std::uint32_t planes[2] = {}, third = 0;
    for (unsigned g = 0; g < 8; ++g) {
      planes[g / 4] |= (q[g] & kTwoBits) << 2 * (g % 4);
      third |= (q[g] >> 2 & kBit) << g;
    }
    for (std::size_t half = 0; half < 2; ++half) std::memcpy(words + 64 * half, planes + half, 4);
    if (kBits == 3) std::memcpy(words + 128, &third, 4);
    return;
  }
  for (std::size_t g = 0; g < 4; ++g) {
    const std::uint32_t both = (q[g] & kNibble) | (q[g + 4] & kNibble) << 4;
    std::memcpy(words + 64 * g, &both, 4);
  }
  if constexpr (kBits == 5) {
    std::uint32_t plane = 0;
    for (unsigned g = 0; g < 8; ++g) plane |= (q[g] >> 4 & kBit) << g;
    std::memcpy(words + 256, &plane, 4);
  }
  if constexpr (kBits == 6) {
    std::uint32_t planes[2] = {};
    for (unsigned g = 0; g < 8; ++g) planes[g / 4] |= (q[g] >> 4 & kTwoBits) << 2 * (g % 4);
    for (std::size_t half = 0; half < 2; ++half)
      std::memcpy(words + 256 + 64 * half, planes + half, 4);
  }
}

/// What a grid packs: numbers of entries, and signs.
void write_numbers(const FileBlock& in, int row, Byte* block) {
  std::uint32_t signs = 0, q[8];
  std::memcpy(q, in.q, sizeof q);
  for (unsigned g = 0; g < 8; ++g) {
    block[16 * g + static_cast<unsigned>(row)] = in.numbers[g];
    signs |= (q[g] >> 3 & 0x01010101U) << g;
  }
  std::memcpy(block + 128 + 4 * row, &signs, 4);
}

void write_scales(const PackedTraits& traits, const FileBlock& in, int block, int row, Byte* scales,
                  Byte* super) {
  const Scales& kind = traits.scales();
  const Byte* from = kind.integers == 0 ? in.scales : in.header;
  Byte* halves = kind.integers == 0 ? scales : super;
  for (int i = 0; i < kind.halves; ++i)
    std::memcpy(halves + 2 * (kPanelRows * i + row), from + 2 * i, 2);
  if (kind.nibbles()) {
    Byte& both = super[nibbles_offset(traits, block) + static_cast<std::size_t>(row)];
    both = static_cast<Byte>(both | in.scales[0] << 4 * (block % 2));
    return;
  }
  for (int i = 0; i < kind.integers; ++i) scales[kPanelRows * i + row] = in.scales[i];
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

/// Packs rows of one type; compiled for each, so that reading and writing know where all bits lie.
template <std::size_t kType>
bool pack_blocks(const Byte* data, std::size_t row_stride, int rows, int columns, Byte* panel) {
  constexpr const BlockTraits& kFile = kBlockTraits[kType];
  constexpr PackedTraits kTraits = packed_traits(kFile.packing);
  bool finite = true;
  FileBlock block;
  for (int b = 0; b < columns / kBlock; ++b) {
    Byte* target = panel + block_offset(kTraits, b);
    for (int r = 0; r < rows; ++r) {
      finite &= read_file_block(kFile, data + static_cast<std::size_t>(r) * row_stride, b, block);
      if constexpr (kTraits.stored.grid != nullptr) {
        write_numbers(block, r, target);
      } else {
        write_quants<kTraits.bits()>(block, r, target);
      }
      write_scales(kTraits, block, b, r, target + kTraits.quant_bytes(),
                   panel + super_offset(kTraits, b));
    }
  }
  return finite;
}

using PackBlocks = bool (*)(const Byte*, std::size_t, int, int, Byte*);
template <std::size_t kType>
constexpr PackBlocks find_pack_blocks() {
  if constexpr (kBlockTraits[kType].read == nullptr) {
    return nullptr;
  } else {
    return pack_blocks<kType>;
  }
}
/// One for each row of kBlockTraits; nullptr: its types are not quantised.
template <class>
struct PackTable;
template <std::size_t... kType>
struct PackTable<std::index_sequence<kType...>> {
  static constexpr PackBlocks kOf[] = {find_pack_blocks<kType>()...};
};
constexpr std::size_t kTypes = sizeof kBlockTraits / sizeof kBlockTraits[0];
constexpr const auto& kPackBlocks = PackTable<std::make_index_sequence<kTypes>>::kOf;

}  // namespace

std::size_t panel_bytes(Packing packing, int columns) {
  const PackedTraits traits = packed_traits(packing);
  if (!is_quantized(packing)) return static_cast<std::size_t>(columns) * kPanelRows * 2;
  return blocks_bytes(traits, columns / kBlock);
}

Packing packing_for(BlockType type, bool head) {
  const BlockTraits* traits = find_block_traits(type);
  if (traits == nullptr) return Packing::kCount;
  return type == BlockType::kF16 && !head ? Packing::kBF16 : traits->packing;
}

bool pack_panel(Packing packing, BlockType type, const std::byte* rows_data, std::size_t row_stride,
                int rows, int columns, std::byte* panel) {
  const auto* data = reinterpret_cast<const Byte*>(rows_data);
  auto* out = reinterpret_cast<Byte*>(panel);
  if (!can_pack(type, packing)) return false;
  std::memset(out, 0, panel_bytes(packing, columns));
  if (!is_quantized(packing))
    return pack_dense(packing, type, data, row_stride, rows, columns, out);
  const auto row = static_cast<std::size_t>(find_block_traits(type) - kBlockTraits);
  return kPackBlocks[row](data, row_stride, rows, columns, out);
}

namespace {

/// What has been stored for value k of a row.
Byte stored_integer(const BlockScheme& scheme, const Byte* block, int row, int k) {
  const int bits = scheme.bits;
  const int g = k / 4;
  const int lane = 4 * row + k % 4;
  if (scheme.grid != nullptr) {
    const int level = scheme.grid[block[16 * g + row]] >> 3 * (k % 4) & 7;
    return static_cast<Byte>(level | (block[128 + lane] >> g & 1) << 3);
  }
  if (bits == 8) return block[64 * g + lane];
  if (bits < 4) {
    const int low = block[64 * (g / 4) + lane] >> 2 * (g % 4) & 3;
    return static_cast<Byte>(bits == 2 ? low : low | (block[128 + lane] >> g & 1) << 2);
  }
  int q = block[64 * (g % 4) + lane] >> (g < 4 ? 0 : 4) & 15;
  if (bits == 5) q |= (block[256 + lane] >> g & 1) << 4;
  if (bits == 6) q |= (block[256 + 64 * (g / 4) + lane] >> (2 * (g % 4)) & 3) << 4;
  return static_cast<Byte>(q);
}

/// A row's scale and offset from a block's scales and those in front of the 256 values.
void read_row_scales(Packing packing, const Byte* scales, const Byte* super, int block, int row,
                     RowBlock& out) {
  const PackedTraits& traits = packed_traits(packing);
  const Scales& kind = traits.scales();
  const Byte* halves = kind.integers == 0 ? scales : super;
  out.offset = 0.0F;
  out.minimums[0] = out.minimums[1] = 1;
  if (kind.form == ScaleForm::kBrain) {
    out.scale = bf16_to_float(load_u16(halves + 2 * row));
    return;
  }
  out.scale = read_half(halves + 2 * row) * kind.unit;
  if (kind.nibbles()) {
    const bool shifted = kind.form == ScaleForm::kShifts;
    const int n =
        super[nibbles_offset(traits, block) + static_cast<std::size_t>(row)] >> 4 * (block % 2);
    out.scale *= static_cast<float>(2 * (n & (shifted ? 7 : 15)) + 1);
    if (shifted) out.offset = out.scale * ((n & 8) != 0 ? -0.125F : 0.125F);
    return;
  }
  if (kind.form == ScaleForm::kPairs) {
    out.offset = -read_half(halves + 2 * (kPanelRows + row));
    for (int half = 0; half < 2; ++half) out.minimums[half] = scales[16 * half + row] >> 4;
    return;
  }
  if (kind.halves == 2) {
    out.offset = read_half(halves + 2 * (kPanelRows + row));
    if (kind.integers == 2) out.offset = -(out.offset * static_cast<float>(scales[16 + row]));
  }
  if (kind.integers > 0 && scheme_of(kind) != Scheme::kHalfScaled)
    out.scale *= static_cast<float>(scales[row] - kind.bias);
  if (packing == Packing::kQ6Top) out.scale *= 0.5F;
  if (packing == Packing::kQ8Top) {
    out.offset = 7.5F * out.scale;
    out.scale *= 16.0F;
  }
}

/// What a half scale's byte says.
int half_scale(const Scales& kind, Byte scale) {
  return kind.form == ScaleForm::kBytes ? static_cast<std::int8_t>(scale) : scale & 15;
}

}  // namespace

void read_row_block(Packing packing, const std::byte* panel, int block, int row, RowBlock& out) {
  const PackedTraits& traits = packed_traits(packing);
  const auto* base = reinterpret_cast<const Byte*>(panel);
  const Byte* p = base + block_offset(traits, block);
  const Byte* scales = p + traits.quant_bytes();
  const Byte* super = base + super_offset(traits, block);
  for (int k = 0; k < kBlock; ++k) {
    Byte q = stored_integer(traits.stored, p, row, k);
    if (traits.scales().form == ScaleForm::kOctets)
      q = static_cast<Byte>(q | (scales[16 * (k / 16) + row] >> (4 + k / 8 % 2) & 1) << 2);
    out.values[k] = traits.step == 1 ? traits.stored.value(q) : traits.step * q - traits.bias();
    if (traits.has_half_scales())
      out.values[k] *= half_scale(traits.scales(), scales[16 * (k / 16) + row]);
  }
  read_row_scales(packing, scales, super, block, row, out);
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
      const int part = k / 16;
      const float offset = block.offset * static_cast<float>(block.minimums[part]);
      out[b * kBlock + k] = block.scale * static_cast<float>(block.values[k]) + offset;
    }
  }
}

std::size_t matmul_scratch_bytes(int columns) {
  const auto blocks = static_cast<std::size_t>((columns + kBlock - 1) / kBlock);
  return kMostPlainPanels * blocks * most_plain_block_bytes();
}

}  // namespace lapidary::kernels
