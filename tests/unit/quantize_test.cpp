// What weights become when they are made into another type: the reference's own blocks where it
// rounds to the nearest, errors no larger than its own where scales are searched for.

#include "formats/quantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "formats/quantize_k.h"
#include "formats/weight_source.h"
#include "gguf_builder.h"
#include "test_data.h"

namespace lapidary {
namespace {

constexpr std::size_t kRows = 24, kColumns = 512;

std::vector<float> golden_values() {
  const std::string bytes = test::read_file(test_data("quantize/values.f32"));
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  EXPECT_EQ(values.size(), kRows * kColumns);
  return values;
}

std::vector<std::byte> quantized(BlockType type, std::span<const float> values) {
  const BlockTraits& traits = *find_block_traits(type);
  std::vector<std::byte> out(values.size() / traits.values * traits.bytes);
  EXPECT_TRUE(quantize(type, values, out)) << traits.name;
  return out;
}

/// The root of the mean squared error of a row, by that of the row itself.
double error_of(BlockType type, std::span<const float> row) {
  std::vector<float> back(row.size());
  dequantize(type, quantized(type, row), back);
  double errors = 0, squares = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    errors += std::pow(double{back[i]} - row[i], 2);
    squares += std::pow(double{row[i]}, 2);
  }
  return std::sqrt(errors / squares);
}

TEST(Quantize, MakesTheBlocksOfTheReference) {
  const std::vector<float> values = golden_values();
  for (const BlockType type :
       {BlockType::kQ8_0, BlockType::kQ4_0, BlockType::kQ4_1, BlockType::kQ5_0, BlockType::kQ5_1}) {
    const std::string name(find_block_traits(type)->name);
    const std::string expected = test::read_file(test_data("quantize/" + name + ".bin"));
    const std::vector<std::byte> made = quantized(type, values);
    ASSERT_EQ(made.size(), expected.size()) << name;
    EXPECT_EQ(std::memcmp(made.data(), expected.data(), made.size()), 0) << name;
  }
}

TEST(Quantize, LeavesNoMoreThanTheReferenceWhereScalesAreSearchedFor) {
  const std::vector<float> values = golden_values();
  std::ifstream file(test_data("quantize/errors.json"));
  const auto theirs = nlohmann::json::parse(file);
  for (const BlockType type : {BlockType::kQ4_K, BlockType::kQ5_K, BlockType::kQ6_K}) {
    const std::string name(find_block_traits(type)->name);
    double ours_all = 0, theirs_all = 0;
    for (std::size_t row = 0; row < kRows; ++row) {
      const double their = theirs[name][row];
      if (their == 1) continue;  // Below what an fp16 scale can say: all become 0.
      const double our = error_of(type, std::span(values).subspan(row * kColumns, kColumns));
      EXPECT_LT(our, 1.1 * their + 1e-3) << name << " row " << row;
      ours_all += our * our;
      theirs_all += their * their;
    }
    RecordProperty(name, std::to_string(std::sqrt(ours_all / theirs_all)));
    EXPECT_LE(std::sqrt(ours_all), 1.03 * std::sqrt(theirs_all)) << name;
  }
}

TEST(Quantize, KeepsWhatItsTypesCanSay) {
  // 6-bit integers with a scale each, as far as they are: made of such, nothing changes.
  std::vector<float> values(256);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = 0.25F * (static_cast<float>(i % 64) - 32);
  for (const BlockType type :
       {BlockType::kQ8_0, BlockType::kQ6_K, BlockType::kBF16, BlockType::kF16})
    EXPECT_LT(error_of(type, values), 0.006) << find_block_traits(type)->name;
  EXPECT_EQ(error_of(BlockType::kBF16, values), 0);
  EXPECT_EQ(error_of(BlockType::kF16, values), 0);
}

TEST(Quantize, OfZerosMakesZeros) {
  const std::vector<float> zeros(256, 0.0F);
  for (const char* name :
       {"bf16", "f16", "q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0"}) {
    const BlockType type = find_weight_type(name).value();
    std::vector<float> back(zeros.size(), 1.0F);
    dequantize(type, quantized(type, zeros), back);
    EXPECT_EQ(std::ranges::count(back, 0.0F), 256) << name;
  }
}

TEST(Quantize, RefusesWhatHasNoScale) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                          -std::numeric_limits<float>::infinity(), 3.3e38F}) {
    for (const BlockType type : {BlockType::kQ8_0, BlockType::kQ4_1, BlockType::kQ4_K,
                                 BlockType::kQ6_K, BlockType::kF16, BlockType::kBF16}) {
      std::vector<float> values(256, 0.5F);
      values[17] = bad;
      std::vector<std::byte> out(1024);
      EXPECT_FALSE(quantize(type, values, out)) << find_block_traits(type)->name << " " << bad;
    }
  }
  std::vector<float> large(256, 1e30F);
  std::vector<std::byte> out(1024);
  large[3] = -1e30F;
  for (const BlockType type : {BlockType::kQ8_0, BlockType::kQ5_0, BlockType::kQ5_1,
                               BlockType::kQ5_K, BlockType::kQ6_K, BlockType::kF16})
    EXPECT_FALSE(quantize(type, large, out)) << find_block_traits(type)->name;
  EXPECT_TRUE(quantize(BlockType::kBF16, large, out));
}

TEST(Quantize, TypesHaveNames) {
  EXPECT_EQ(find_weight_type("q4_k"), BlockType::kQ4_K);
  EXPECT_FALSE(find_weight_type("Q4_K"));
  EXPECT_FALSE(find_weight_type(""));
  EXPECT_EQ(weight_type_names(), "bf16, f16, q8_0, q6_k, q5_k, q5_1, q5_0, q4_k, q4_1, q4_0");
}

// All halves: each is nearest to itself, what lies between two goes to the nearer, and in the
// middle to the even one.
TEST(FloatToHalf, IsTheNearest) {
  for (std::uint32_t bits = 0; bits < 0x7C00; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = half_to_float(half);
    const float next = half_to_float(static_cast<std::uint16_t>(bits + 1));
    ASSERT_EQ(float_to_half(value), half);
    ASSERT_EQ(float_to_half(-value), half | 0x8000);
    if (bits + 1 == 0x7C00) break;
    const float middle = value + (next - value) / 2;
    const auto even = static_cast<std::uint16_t>(bits + bits % 2);
    ASSERT_EQ(float_to_half(middle), even);
    ASSERT_EQ(float_to_half(std::nextafter(middle, 0.0F)), half);
    ASSERT_EQ(float_to_half(std::nextafter(middle, 1e9F)), half + 1);
  }
  EXPECT_EQ(float_to_half(65519.996F), 0x7BFF);
  EXPECT_EQ(float_to_half(65520.0F), 0x7C00);
  EXPECT_EQ(float_to_half(std::numeric_limits<float>::infinity()), 0x7C00);
  EXPECT_GT(float_to_half(std::numeric_limits<float>::quiet_NaN()), 0x7C00);
}

}  // namespace
}  // namespace lapidary
