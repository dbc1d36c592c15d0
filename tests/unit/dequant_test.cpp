#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "formats/weight_source.h"
#include "gguf_builder.h"
#include "lapidary/error.h"
#include "test_data.h"

namespace lapidary {
namespace {

using test::number_bytes;
using test::read_file;

std::vector<float> dequantized(BlockType type, const std::string& bytes, std::size_t values) {
  std::vector<float> out(values);
  dequantize(type, std::as_bytes(std::span(bytes)), out);
  return out;
}

class Golden : public testing::TestWithParam<BlockTraits> {};

// Every type against an independent implementation, bit by bit.
TEST_P(Golden, IsExact) {
  const BlockTraits& traits = GetParam();
  const std::string stem = test_data("dequant/" + std::string(traits.name));
  const std::string bytes = read_file(stem + ".bytes");
  const std::string expected = read_file(stem + ".f32");
  ASSERT_EQ(expected.size(), 8 * 512 * sizeof(float));
  ASSERT_EQ(bytes.size(), 8 * 512 / traits.values * traits.bytes);
  const std::vector<float> found = dequantized(traits.type, bytes, 8 * 512);
  for (std::size_t i = 0; i < found.size(); ++i) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, expected.data() + 4 * i, 4);
    ASSERT_EQ(std::bit_cast<std::uint32_t>(found[i]), bits) << "value " << i;
  }
}

std::vector<BlockTraits> golden_types() {
  std::vector<BlockTraits> types;
  for (const BlockTraits& traits : kBlockTraits) {
    if (traits.type != BlockType::kF32)
      types.push_back(traits);  // Has no golden file: it is a copy.
  }
  return types;
}

/// The hash of the values' bytes.
std::uint64_t fnv1a(std::span<const float> values) {
  std::uint64_t hash = 0xCBF29CE484222325U;
  for (const std::byte byte : std::as_bytes(values))
    hash = (hash ^ std::to_integer<std::uint64_t>(byte)) * 0x100000001B3U;
  return hash;
}

// Every entry of every grid, by the hash of what the independent implementation makes of them.
TEST(Dequant, EveryEntryOfTheGrids) {
  for (const char* name : {"IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S", "IQ1_M"}) {
    const BlockTraits* const traits = std::ranges::find(kBlockTraits, name, &BlockTraits::name);
    const std::string file = read_file(test_data(std::string("dequant/") + name + ".grid"));
    ASSERT_GT(file.size(), 8U) << name;
    std::uint64_t expected = 0;
    std::memcpy(&expected, file.data(), 8);
    const std::string blocks = file.substr(8);
    EXPECT_EQ(fnv1a(dequantized(traits->type, blocks, blocks.size() / traits->bytes * 256)),
              expected)
        << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Golden, testing::ValuesIn(golden_types()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(Dequant, F32IsACopy) {
  const std::vector<float> values = {0.0F, -0.0F, 1.5F, std::numeric_limits<float>::denorm_min(),
                                     std::numeric_limits<float>::infinity()};
  std::string bytes;
  for (const float value : values) bytes += number_bytes(value);
  const std::vector<float> found = dequantized(BlockType::kF32, bytes, values.size());
  EXPECT_EQ(0, std::memcmp(found.data(), values.data(), bytes.size()));
}

// All 65,536 halves against their definition in double precision.
TEST(Dequant, EveryHalf) {
  for (std::uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
    const float found =
        dequantized(BlockType::kF16, number_bytes(static_cast<std::uint16_t>(bits)), 1)[0];
    const int exponent = static_cast<int>(bits >> 10 & 31U);
    const int mantissa = static_cast<int>(bits & 0x3FFU);
    ASSERT_EQ(std::signbit(found), (bits & 0x8000U) != 0) << bits;
    if (exponent == 31 && mantissa != 0) {
      ASSERT_TRUE(std::isnan(found)) << bits;
      continue;
    }
    double magnitude =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    if (exponent == 31) magnitude = std::numeric_limits<double>::infinity();
    ASSERT_EQ(std::fabs(static_cast<double>(found)), magnitude) << bits;
  }
}

TEST(Dequant, RefusesSizesThatDoNotFit) {
  const std::string block(34, '\0');
  EXPECT_THROW(dequantized(BlockType::kQ8_0, block, 31), Error);
  EXPECT_THROW(dequantized(BlockType::kQ8_0, block, 64), Error);
  EXPECT_THROW(dequantized(BlockType::kQ8_0, block.substr(1), 32), Error);
  EXPECT_THROW(dequantized(static_cast<BlockType>(9), block, 32), Error);
  EXPECT_NO_THROW(dequantized(BlockType::kQ8_0, block, 32));
}

TEST(TensorInfo, RowsAndColumns) {
  TensorInfo tensor;
  EXPECT_EQ(tensor.columns(), 1U);
  EXPECT_EQ(tensor.rows(), 1U);
  tensor.shape = {7};
  EXPECT_EQ(tensor.columns(), 7U);
  EXPECT_EQ(tensor.rows(), 1U);
  tensor.shape = {7, 3, 2};
  EXPECT_EQ(tensor.rows(), 6U);
}

}  // namespace
}  // namespace lapidary
