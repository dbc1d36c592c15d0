#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "kernels_data.h"
#include "kernels_tables.h"

namespace lapidary {
namespace {

std::vector<float> activations(std::mt19937& random, int columns) {
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(columns));
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = normal(random) * std::ldexp(1.0F, static_cast<int>(i / kBlock % 7) * 4 - 12);
    if (i / kBlock == 3) x[i] = 0.0F;  // A block of zeros has scale zero.
    if (i / kBlock == 5) x[i] = i % kBlock == 7 ? -1000.0F : 1e-3F;
  }
  return x;
}

TEST(KernelsQuantize, ErrorsStayWithinHalfAStep) {
  std::mt19937 random(23);
  constexpr int kColumns = 640;
  const std::vector<float> x = activations(random, kColumns);
  for (const Kernels* table : all_tables()) {
    Input eight(2, kColumns), sixteen(2, kColumns);
    table->quantize(x.data(), kColumns, eight.view, 1);
    table->quantize16(x.data(), kColumns, sixteen.view, 1);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t at = kColumns + i;
      const double step = eight.scales[at / kBlock], finer = sixteen.scales[at / kBlock];
      ASSERT_LE(std::abs(int{eight.values[at]}), 127);
      ASSERT_LE(std::abs(int{sixteen.values[at]}), 127);
      ASSERT_LE(std::abs(int{sixteen.low[at]}), 127);
      // Beyond half a step: the roundings of scale, inverse and product, at most 3 · 2^-24 of the
      // value.
      EXPECT_NEAR(eight.values[at] * step, x[i], step / 2 + 3 * 0x1p-24 * std::fabs(x[i]))
          << table->name;
      EXPECT_NEAR((sixteen.values[at] + sixteen.low[at] / 254.0) * finer, x[i],
                  finer / 254 / 2 + 3 * 0x1p-24 * std::fabs(x[i]))
          << table->name;
    }
  }
}

TEST(KernelsQuantize, EveryIsaAndPartGiveTheSameBits) {
  std::mt19937 random(29);
  constexpr int kColumns = 640;
  const std::vector<float> x = activations(random, kColumns);
  Input eight(2, kColumns), sixteen(2, kColumns);
  scalar_table().quantize(x.data(), kColumns, eight.view, 1);
  scalar_table().quantize16(x.data(), kColumns, sixteen.view, 1);
  Input derived = eight, derived_sixteen = sixteen;
  derived.finish();
  derived_sixteen.finish();
  EXPECT_TRUE(std::ranges::equal(derived.sums, eight.sums));
  EXPECT_TRUE(std::ranges::equal(derived.scaled_sums, eight.scaled_sums));
  EXPECT_TRUE(std::ranges::equal(derived_sixteen.low_sums, sixteen.low_sums));
  EXPECT_TRUE(std::ranges::equal(derived_sixteen.scaled_sums, sixteen.scaled_sums));
  EXPECT_TRUE(std::ranges::equal(derived_sixteen.low_scaled_sums, sixteen.low_scaled_sums));
  const auto expect_same = [](const Input& got, const Input& want, const char* name) {
    EXPECT_TRUE(std::ranges::equal(got.values, want.values)) << name;
    EXPECT_TRUE(std::ranges::equal(got.low, want.low)) << name;
    EXPECT_TRUE(std::ranges::equal(got.sums, want.sums)) << name;
    EXPECT_TRUE(std::ranges::equal(got.low_sums, want.low_sums)) << name;
    EXPECT_TRUE(same_bits(got.scales, want.scales)) << name;
    EXPECT_TRUE(same_bits(got.scaled_sums, want.scaled_sums)) << name;
    EXPECT_TRUE(same_bits(got.low_scaled_sums, want.low_scaled_sums)) << name;
  };
  for (const Kernels* table : all_tables()) {
    Input a(2, kColumns), b(2, kColumns), c(2, kColumns), d(2, kColumns);
    table->quantize(x.data(), kColumns, a.view, 1);
    for (int first = 0; first < kColumns; first += 160)
      table->quantize_columns(x.data() + first, first, 160, b.view, 1);
    table->quantize16(x.data(), kColumns, c.view, 1);
    for (int first = 0; first < kColumns; first += 160)
      table->quantize16_columns(x.data() + first, first, 160, d.view, 1);
    expect_same(a, eight, table->name);
    expect_same(b, eight, table->name);
    expect_same(c, sixteen, table->name);
    expect_same(d, sixteen, table->name);
  }
}

/// The low planes of blocks [first, end) are zero, or as before where low_used says so.
void expect_dropped(const Input& got, const Input& before, std::size_t first, std::size_t end) {
  for (std::size_t b = first; b < end; ++b) {
    const auto low = got.low.begin() + static_cast<std::ptrdiff_t>(b * kBlock);
    const bool zero = std::all_of(low, low + kBlock, [](std::int8_t v) { return v == 0; });
    const bool same =
        std::equal(low, low + kBlock, before.low.begin() + static_cast<std::ptrdiff_t>(b * kBlock));
    EXPECT_TRUE(got.low_used[b] != 0 ? same : zero) << "block " << b;
  }
}

TEST(KernelsQuantize, BlocksLoseTheirLowPlaneOnEveryIsaAlike) {
  std::mt19937 random(31);
  constexpr int kColumns = 640;
  constexpr std::size_t kBlocks = kColumns / kBlock;
  const std::vector<float> x = activations(random, kColumns);
  Input before(2, kColumns);
  before.view.squares = before.squares.data();
  const std::span<const float> squares = before.squares;
  scalar_table().quantize16(x.data(), kColumns, before.view, 1);
  for (std::size_t b = 0; b < kBlocks; ++b) {
    const auto block = x.begin() + static_cast<std::ptrdiff_t>(b * kBlock);
    const double exact = std::inner_product(block, block + kBlock, block, 0.0);
    EXPECT_NEAR(squares[kBlocks + b], exact, 1e-6 * exact);
  }
  for (const Kernels* table : all_tables()) {
    Input got(2, kColumns);
    got.view.low_used = got.low_used.data();
    got.view.squares = got.squares.data();
    table->quantize16(x.data(), kColumns, got.view, 1);
    EXPECT_TRUE(same_bits(got.squares.subspan(kBlocks), squares.subspan(kBlocks))) << table->name;
    table->drop_low_blocks(got.view, 1);
    expect_dropped(got, before, kBlocks, 2 * kBlocks);
    const auto used = std::count(got.low_used.begin() + kBlocks, got.low_used.end(), 1);
    EXPECT_GT(used, 0);
    EXPECT_LT(used, static_cast<std::ptrdiff_t>(kBlocks));
    EXPECT_TRUE(std::ranges::equal(got.values, before.values));
    Input derived = got;
    derived.finish();
    EXPECT_TRUE(std::ranges::equal(derived.low_sums, got.low_sums));
    EXPECT_TRUE(same_bits(derived.scaled_sums, got.scaled_sums));
    EXPECT_TRUE(same_bits(derived.low_scaled_sums, got.low_scaled_sums));
  }
}

}  // namespace
}  // namespace lapidary
