#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "formats/block_readers.h"

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
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ1_S = 19,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kIQ1_M = 29,
  kBF16 = 30,
  kTQ1_0 = 34,
  kTQ2_0 = 35,
  kMXFP4 = 39,
};

namespace kernels {

/// How a packed matrix holds its values (kernels/pack.h). Types of a file whose integers and scales
/// mean the same share one.
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
  kQ2_K,
  kQ3_K,
  kIQ1_S,
  kIQ1_M,
  kIQ2_XXS,
  kIQ2_S,  // And IQ2_XS.
  kIQ3_XXS,
  kIQ3_S,
  kTernary,  // TQ1_0 and TQ2_0.
  kMXFP4,
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

/// What the numbers beside 32 values are.
enum class ScaleForm : std::uint8_t {
  kBytes,   // fp16, and bytes less a bias, or int8 where there are two.
  kBrain,   // One bf16.
  kOdd,     // fp16, and a nibble n that means 2n + 1.
  kShifts,  // The same of n's lower three bits; bit 3: the sign of what is added, scale / 8.
  kPairs,   // fp16 scale and minimum, and for each sixteen a nibble s and above it a nibble m.
  kOctets,  // fp16, and for each sixteen a nibble s; in the byte's bits 4 and 5 bit 2 of the
            // integers, one for each eight.
};

/// The scales of 32 values.
struct Scales {
  int halves;    // 16-bit floats: 1, a scale; 2, a scale, and an offset or minimum.
  int integers;  // Beside them; 0: the floats are these 32 values' own, else …
  int bias = 0;  // … those of 256 values. What is subtracted from a byte.
  ScaleForm form = ScaleForm::kBytes;
  float unit = 1.0F;  // A power of two that the first float is multiplied by.

  /// Whether two blocks share a byte of integers.
  constexpr bool nibbles() const { return form == ScaleForm::kOdd || form == ScaleForm::kShifts; }
};
inline constexpr Scales kHalfScale{1, 0};       // scale · q
inline constexpr Scales kHalfAffine{2, 0};      // scale · q + offset
inline constexpr Scales kSuperAffine{2, 2};     // scale · s · q - minimum · m
inline constexpr Scales kSuperHalves{1, 2};     // scale · s · q, an int8 s for each sixteen
inline constexpr Scales kSuperScale{1, 1, 32};  // scale · (s - 32) · q
inline constexpr Scales kBrainScale{1, 0, 0, ScaleForm::kBrain};
inline constexpr Scales kPairScales{2, 2, 0, ScaleForm::kPairs};     // As kSuperAffine, of sixteen.
inline constexpr Scales kShiftedScale{1, 1, 0, ScaleForm::kShifts};  // scale · (2s + 1)(q ± 1/8)
inline constexpr Scales kOctetHalves{1, 2, 0, ScaleForm::kOctets, 0.125F};
inline constexpr Scales kEighthHalves{1, 2, 0, ScaleForm::kBytes, 0.125F};
/// scale · unit · (2n + 1) · q
constexpr Scales odd_scale(float unit) { return {1, 1, 0, ScaleForm::kOdd, unit}; }

/// What the integers 0 … 15 of some types stand for.
using CodeBook = std::int8_t[16];
/// IQ4's: close together near 0, where weights are most.
inline constexpr CodeBook kIq4Codes = {-127, -104, -83, -65, -49, -35, -22, -10,
                                       1,    13,   25,  38,  53,  69,  89,  113};
/// Those of grids: levels, and the same with the sign that stands above them.
inline constexpr CodeBook kIq2Codes = {8, 25, 43, 0, -8, -25, -43, 0};
inline constexpr CodeBook kIq3XxsCodes = {4,  12,  20,  28,  36,  44,  52,  62,
                                          -4, -12, -20, -28, -36, -44, -52, -62};
inline constexpr CodeBook kIq3SCodes = {1,  3,  5,  7,  9,  11,  13,  15,
                                        -1, -3, -5, -7, -9, -11, -13, -15};
/// Eight times -1, 0 and 1, and one more; or one less.
inline constexpr CodeBook kIq1Codes = {-7, 1, 9, 0, -9, -1, 7, 0};
/// Twice the 4-bit floats.
inline constexpr CodeBook kMxCodes = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/// What the integers of a quantised type mean.
struct BlockScheme {
  int bits = 0;  // Of a stored integer.
  int bias = 0;  // What is subtracted from it.
  Scales scales = kHalfScale;
  const CodeBook* codes = nullptr;  // Where integers are numbers of its entries.
  /// Where four integers have too many bits for what they may be: 256 entries, of which numbers and
  /// signs are stored instead; levels of three bits, which are numbers of the code book.
  const std::uint16_t* grid = nullptr;

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
    {BlockType::kQ2_K, "Q2_K", 256, 84, kernels::Packing::kQ2_K, {2, 0, kPairScales}, {80, 82},
     readers::q2_k},
    {BlockType::kQ3_K, "Q3_K", 256, 110, kernels::Packing::kQ3_K, {3, 4, kSuperHalves}, {108, -1},
     readers::q3_k},
    {BlockType::kIQ1_S, "IQ1_S", 256, 50, kernels::Packing::kIQ1_S, {2, 1, kShiftedScale}, {0, -1},
     readers::iq1_s},
    {BlockType::kIQ1_M, "IQ1_M", 256, 56, kernels::Packing::kIQ1_M,
     {2, 0, kOctetHalves, &kIq1Codes}, {-1, -1}, readers::iq1_m},
    {BlockType::kIQ2_XXS, "IQ2_XXS", 256, 66, kernels::Packing::kIQ2_XXS,
     {3, 0, odd_scale(0.125F), &kIq2Codes}, {0, -1}, readers::iq2_xxs},
    {BlockType::kIQ2_XS, "IQ2_XS", 256, 74, kernels::Packing::kIQ2_S,
     {3, 0, kEighthHalves, &kIq2Codes}, {0, -1}, readers::iq2_xs},
    {BlockType::kIQ2_S, "IQ2_S", 256, 82, kernels::Packing::kIQ2_S,
     {3, 0, kEighthHalves, &kIq2Codes}, {0, -1}, readers::iq2_s},
    {BlockType::kIQ3_XXS, "IQ3_XXS", 256, 98, kernels::Packing::kIQ3_XXS,
     {3, 0, odd_scale(0.25F), &kIq3XxsCodes, kIq3XxsGrid}, {0, -1}, readers::iq3_xxs},
    {BlockType::kIQ3_S, "IQ3_S", 256, 110, kernels::Packing::kIQ3_S,
     {4, 0, odd_scale(1.0F), &kIq3SCodes}, {0, -1}, readers::iq3_s},
    {BlockType::kTQ1_0, "TQ1_0", 256, 54, kernels::Packing::kTernary, {2, 1}, {52, -1},
     readers::tq1_0},
    {BlockType::kTQ2_0, "TQ2_0", 256, 66, kernels::Packing::kTernary, {2, 1}, {64, -1},
     readers::tq2_0},
    {BlockType::kMXFP4, "MXFP4", 32, 17, kernels::Packing::kMXFP4,
     {4, 0, kBrainScale, &kMxCodes}, {-1, -1}, readers::mxfp4},
};
// clang-format on

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
