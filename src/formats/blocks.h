#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

/// The types of tensor data in files, each in one place: its number and name, the bytes of its
/// block, how 32 values of a block are read, and what they mean. Dequantisation, packing, the
/// kernels' tables, the tests and the benchmarks are made from this list
/// (docs/adding-a-format.md).
namespace lapidary {

/// Types that are read. The values are GGUF's own numbers.
enum class BlockType : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kBF16 = 30,
};

namespace kernels {

/// How a packed matrix holds its values (kernels/pack.h). Each quantised type of a file has a
/// packing of its own.
enum class Packing : std::uint8_t {
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kIQ4_XS,
  kBF16,
  kF16,
  // Matrices in planes, which no file has (kernels/split.h), and parts of them.
  kQ8Split,  // Q8_0 in planes.
  kQ8Top,    // The upper four bits of kQ8Split …
  kQ8Top5,   // … and the upper five.
  kQ6Split,  // Q6_K in planes, and …
  kQ6Top,    // … the upper four bits of that.
  kCount
};

}  // namespace kernels

/// The scales of 32 values.
struct Scales {
  int halves;    // fp16 numbers: 1, a scale; 2, a scale, and an offset or minimum.
  int integers;  // Bytes beside them; 0: the fp16 numbers are these 32 values' own, else …
  int bias = 0;  // … those of 256 values. What is subtracted from such a byte.
};
inline constexpr Scales kHalfScale{1, 0};       // scale · q
inline constexpr Scales kHalfAffine{2, 0};      // scale · q + offset
inline constexpr Scales kSuperAffine{2, 2};     // scale · s · q - minimum · m
inline constexpr Scales kSuperHalves{1, 2};     // scale · s · q, an int8 s for each sixteen
inline constexpr Scales kSuperScale{1, 1, 32};  // scale · (s - 32) · q

/// What the integers 0 … 15 of some types stand for.
using CodeBook = std::int8_t[16];
/// IQ4's: close together near 0, where weights are most.
inline constexpr CodeBook kIq4Codes = {-127, -104, -83, -65, -49, -35, -22, -10,
                                       1,    13,   25,  38,  53,  69,  89,  113};

/// 32 values as a file holds them.
struct FileBlock {
  std::uint8_t q[32];      // Unsigned; with 8 bits, int8.
  std::uint8_t scales[4];  // Of these values alone: fp16 scale and offset; or s and m, or both s.
  std::uint8_t header[4];  // Of 256 values: fp16 scale and minimum.
};

/// What the integers of a quantised type mean.
struct BlockScheme {
  int bits = 0;  // Of a stored integer.
  int bias = 0;  // What is subtracted from it.
  Scales scales = kHalfScale;
  const CodeBook* codes = nullptr;  // Where integers are numbers of its entries.

  /// What an integer stands for, before its scale.
  constexpr int value(std::uint8_t q) const {
    if (codes != nullptr) return (*codes)[q];
    return bits == 8 ? static_cast<std::int8_t>(q) : int{q} - bias;
  }
  /// Whether products take these values as signed bytes, not as the stored integers.
  constexpr bool takes_bytes() const { return bits == 8 || codes != nullptr; }
};

/// One row a type.
struct BlockTraits {
  BlockType type;
  std::string_view name;  // Also of the golden blocks in tests/data/dequant.
  std::uint32_t values;   // Of a block, and …
  std::uint32_t bytes;    // … what it takes in a file.
  kernels::Packing packing;
  BlockScheme scheme = {};
  int halves[2] = {-1, -1};  // Where a block has its fp16 numbers; -1: no more of them.
  /// Reads values 32 · part … 32 · part + 31 of a block. nullptr: single values (read_float).
  void (*read)(const std::uint8_t* block, int part, FileBlock& out) = nullptr;
};

namespace readers {

/// Sixteen bytes: first the lower halves of all, then the upper ones.
inline void split_nibbles(const std::uint8_t* nibbles, std::uint8_t* q) {
  for (int i = 0; i < 16; ++i) {
    q[i] = nibbles[i] & 15U;
    q[i + 16] = static_cast<std::uint8_t>(nibbles[i] >> 4);
  }
}

/// Bit i of the word becomes bit 4 of q[i]; eight values at a time.
inline void add_fifth_bits(const std::uint8_t* bits, std::uint8_t* q) {
  constexpr std::uint64_t kEach = 0x0101010101010101, kOwn = 0x8040201008040201;
  for (std::size_t byte = 0; byte < 4; ++byte) {
    const std::uint64_t own = (bits[byte] * kEach) & kOwn;  // Byte i has only bit i left …
    std::uint64_t eight;
    std::memcpy(&eight, q + 8 * byte, 8);
    eight |= ((own + 0x7F * kEach) & (0x80 * kEach)) >> 3;  // … and is 0 or carries into bit 7.
    std::memcpy(q + 8 * byte, &eight, 8);
  }
}

inline void q4_0(const std::uint8_t* block, int /*part*/, FileBlock& out) {
  std::memcpy(out.scales, block, 2);
  split_nibbles(block + 2, out.q);
}
inline void q4_1(const std::uint8_t* block, int /*part*/, FileBlock& out) {
  std::memcpy(out.scales, block, 4);
  split_nibbles(block + 4, out.q);
}
inline void q5_0(const std::uint8_t* block, int /*part*/, FileBlock& out) {
  std::memcpy(out.scales, block, 2);
  split_nibbles(block + 6, out.q);
  add_fifth_bits(block + 2, out.q);
}
inline void q5_1(const std::uint8_t* block, int /*part*/, FileBlock& out) {
  std::memcpy(out.scales, block, 4);
  split_nibbles(block + 8, out.q);
  add_fifth_bits(block + 4, out.q);
}
inline void q8_0(const std::uint8_t* block, int /*part*/, FileBlock& out) {
  std::memcpy(out.scales, block, 2);
  std::memcpy(out.q, block + 2, 32);
}

/// Scale and minimum number j of the 6-bit pairs in the 12 bytes of Q4_K and Q5_K.
inline void k_scale(const std::uint8_t* s, int j, std::uint8_t* scale, std::uint8_t* minimum) {
  if (j < 4) {
    *scale = s[j] & 63U;
    *minimum = s[j + 4] & 63U;
  } else {
    *scale = static_cast<std::uint8_t>((s[j + 4] & 15U) | (s[j - 4] >> 6 & 3U) << 4);
    *minimum = static_cast<std::uint8_t>((s[j + 4] >> 4) | (s[j] >> 6 & 3U) << 4);
  }
}
template <bool kFiveBits>
void q45_k(const std::uint8_t* block, int part, FileBlock& out) {
  std::memcpy(out.header, block, 4);
  k_scale(block + 4, part, &out.scales[0], &out.scales[1]);
  const std::uint8_t* high = block + 16;
  const std::uint8_t* low = high + (kFiveBits ? 32 : 0) + part / 2 * 32;
  for (int i = 0; i < 32; ++i) {
    unsigned q = part % 2 == 0 ? low[i] & 15U : static_cast<unsigned>(low[i]) >> 4;
    if (kFiveBits) q |= (high[i] >> part & 1U) << 4;
    out.q[i] = static_cast<std::uint8_t>(q);
  }
}
inline void q6_k(const std::uint8_t* block, int part, FileBlock& out) {
  const std::uint8_t* low = block + part / 4 * 64 + part % 2 * 32;
  const std::uint8_t* high = block + 128 + part / 4 * 32;
  const unsigned low_shift = part % 4 < 2 ? 0 : 4;
  const unsigned high_shift = static_cast<unsigned>(part % 4) * 2;
  for (int i = 0; i < 32; ++i) {
    out.q[i] = static_cast<std::uint8_t>((low[i] >> low_shift & 15U) |
                                         ((high[i] >> high_shift & 3U) << 4));
  }
  out.scales[0] = block[192 + 2 * part];
  out.scales[1] = block[192 + 2 * part + 1];
  std::memcpy(out.header, block + 208, 2);
}

inline void iq4_xs(const std::uint8_t* block, int part, FileBlock& out) {
  std::memcpy(out.header, block, 2);
  const unsigned low = static_cast<unsigned>(block[4 + part / 2]) >> 4 * (part % 2) & 15U;
  const unsigned high = static_cast<unsigned>(block[2 + part / 4]) >> 2 * (part % 4) & 3U;
  out.scales[0] = static_cast<std::uint8_t>(low | high << 4);
  split_nibbles(block + 8 + 16 * part, out.q);
}

}  // namespace readers

// clang-format off
inline constexpr BlockTraits kBlockTraits[] = {
    {BlockType::kF32, "F32", 1, 4, kernels::Packing::kBF16},
    {BlockType::kF16, "F16", 1, 2, kernels::Packing::kF16},
    {BlockType::kBF16, "BF16", 1, 2, kernels::Packing::kBF16},
    {BlockType::kQ8_0, "Q8_0", 32, 34, kernels::Packing::kQ8_0, {8}, {0, -1},
     readers::q8_0},
    {BlockType::kQ4_0, "Q4_0", 32, 18, kernels::Packing::kQ4_0, {4, 8}, {0, -1},
     readers::q4_0},
    {BlockType::kQ4_1, "Q4_1", 32, 20, kernels::Packing::kQ4_1, {4, 0, kHalfAffine}, {0, 2},
     readers::q4_1},
    {BlockType::kQ5_0, "Q5_0", 32, 22, kernels::Packing::kQ5_0, {5, 16}, {0, -1},
     readers::q5_0},
    {BlockType::kQ5_1, "Q5_1", 32, 24, kernels::Packing::kQ5_1, {5, 0, kHalfAffine}, {0, 2},
     readers::q5_1},
    {BlockType::kQ4_K, "Q4_K", 256, 144, kernels::Packing::kQ4_K, {4, 0, kSuperAffine}, {0, 2},
     readers::q45_k<false>},
    {BlockType::kQ5_K, "Q5_K", 256, 176, kernels::Packing::kQ5_K, {5, 0, kSuperAffine}, {0, 2},
     readers::q45_k<true>},
    {BlockType::kQ6_K, "Q6_K", 256, 210, kernels::Packing::kQ6_K, {6, 32, kSuperHalves}, {208, -1},
     readers::q6_k},
    {BlockType::kIQ4_NL, "IQ4_NL", 32, 18, kernels::Packing::kIQ4_NL,
     {4, 0, kHalfScale, &kIq4Codes}, {0, -1}, readers::q4_0},
    {BlockType::kIQ4_XS, "IQ4_XS", 256, 136, kernels::Packing::kIQ4_XS,
     {4, 0, kSuperScale, &kIq4Codes}, {0, -1}, readers::iq4_xs},
};
// clang-format on

/// Types that are not read, for messages.
struct OtherType {
  std::uint32_t number;
  std::string_view name;
};
inline constexpr OtherType kOtherTypes[] = {
    {9, "Q8_1"},    {10, "Q2_K"},    {11, "Q3_K"},  {15, "Q8_K"},  {16, "IQ2_XXS"},
    {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {21, "IQ3_S"}, {22, "IQ2_S"},
    {24, "I8"},     {25, "I16"},     {26, "I32"},   {27, "I64"},   {28, "F64"},
    {29, "IQ1_M"},  {34, "TQ1_0"},   {35, "TQ2_0"}, {39, "MXFP4"},
};

/// The traits of `type`, or nullptr for a number that is no type we read.
constexpr const BlockTraits* find_block_traits(BlockType type) {
  for (const BlockTraits& traits : kBlockTraits) {
    if (traits.type == type) return &traits;
  }
  return nullptr;
}

/// IEEE binary16 to binary32, exact, whatever happens to subnormal floats.
inline float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16;
  const std::uint32_t magnitude = half & 0x7FFFU;
  if (magnitude >= 0x7C00U) return std::bit_cast<float>(sign | 0x7F800000U | (magnitude << 13));
  if (magnitude < 0x0400U) {  // Subnormal: an integer times 2^-24.
    const float value = static_cast<float>(magnitude) * 0x1p-24F;
    return sign != 0 ? -value : value;
  }
  return std::bit_cast<float>(sign | ((magnitude << 13) + 0x38000000U));
}

constexpr bool is_finite_half(std::uint16_t half) { return (half & 0x7C00U) != 0x7C00U; }

inline std::uint16_t load_u16(const void* from) {
  std::uint16_t value;
  std::memcpy(&value, from, 2);
  return value;
}

inline float read_half(const std::uint8_t* from) { return half_to_float(load_u16(from)); }

inline float bf16_to_float(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

/// Value `k` of a row of F16, BF16 or F32.
inline float read_float(BlockType type, const std::byte* row, int k) {
  const auto i = static_cast<std::size_t>(k);
  float out;
  if (type == BlockType::kF32) {
    std::memcpy(&out, row + 4 * i, 4);
    return out;
  }
  const std::uint16_t word = load_u16(row + 2 * i);
  return type == BlockType::kF16 ? half_to_float(word) : bf16_to_float(word);
}

}  // namespace lapidary
