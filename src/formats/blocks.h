#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace lapidary {

/// Types of tensor data in files that the engine reads. The values are GGUF's own numbers.
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
  kBF16 = 30,
};

/// One row a type: how many values a block holds and how many bytes it takes in a file.
struct BlockTraits {
  BlockType type;
  std::string_view name;
  std::uint32_t values;
  std::uint32_t bytes;
};

inline constexpr BlockTraits kBlockTraits[] = {
    {BlockType::kF32, "F32", 1, 4},       {BlockType::kF16, "F16", 1, 2},
    {BlockType::kBF16, "BF16", 1, 2},     {BlockType::kQ8_0, "Q8_0", 32, 34},
    {BlockType::kQ4_0, "Q4_0", 32, 18},   {BlockType::kQ4_1, "Q4_1", 32, 20},
    {BlockType::kQ5_0, "Q5_0", 32, 22},   {BlockType::kQ5_1, "Q5_1", 32, 24},
    {BlockType::kQ4_K, "Q4_K", 256, 144}, {BlockType::kQ5_K, "Q5_K", 256, 176},
    {BlockType::kQ6_K, "Q6_K", 256, 210},
};

/// The traits of `type`, or nullptr for a number that is no type we read.
constexpr const BlockTraits* find_block_traits(BlockType type) {
  for (const BlockTraits& traits : kBlockTraits) {
    if (traits.type == type) return &traits;
  }
  return nullptr;
}

}  // namespace lapidary
