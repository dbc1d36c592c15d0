#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
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
    Input narrow(2, kColumns), wide(2, kColumns);
    table->quantize(x.data(), kColumns, narrow.view, 1);
    table->quantize16(x.data(), kColumns, wide.view, 1);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t at = kColumns + i;
      const double step = narrow.scales[at / kBlock], fine = wide.scales[at / kBlock];
      ASSERT_LE(std::abs(int{narrow.values[at]}), 127);
      ASSERT_LE(std::abs(int{wide.values[at]}), 127);
      ASSERT_LE(std::abs(int{wide.low[at]}), 127);
      // Beyond half a step: the roundings of scale, inverse and product, at most 3 · 2^-24 of the
      // value.
      EXPECT_NEAR(narrow.values[at] * step, x[i], step / 2 + 3 * 0x1p-24 * std::fabs(x[i]))
          << table->name;
      EXPECT_NEAR((wide.values[at] + wide.low[at] / 254.0) * fine, x[i],
                  fine / 254 / 2 + 3 * 0x1p-24 * std::fabs(x[i]))
          << table->name;
    }
  }
}

TEST(KernelsQuantize, EveryIsaAndPartGiveTheSameBits) {
  std::mt19937 random(29);
  constexpr int kColumns = 640;
  const std::vector<float> x = activations(random, kColumns);
  Input narrow(2, kColumns), wide(2, kColumns);
  scalar_table().quantize(x.data(), kColumns, narrow.view, 1);
  scalar_table().quantize16(x.data(), kColumns, wide.view, 1);
  Input derived = narrow, derived_wide = wide;
  derived.finish();
  derived_wide.finish();
  EXPECT_EQ(derived.sums, narrow.sums);
  EXPECT_EQ(derived.scaled_sums, narrow.scaled_sums);
  EXPECT_EQ(derived_wide.low_sums, wide.low_sums);
  EXPECT_EQ(derived_wide.scaled_sums, wide.scaled_sums);
  EXPECT_EQ(derived_wide.low_scaled_sums, wide.low_scaled_sums);
  const auto expect_same = [](const Input& got, const Input& want, const char* name) {
    EXPECT_EQ(got.values, want.values) << name;
    EXPECT_EQ(got.low, want.low) << name;
    EXPECT_EQ(got.sums, want.sums) << name;
    EXPECT_EQ(got.low_sums, want.low_sums) << name;
    EXPECT_TRUE(same_bits(got.scales, want.scales)) << name;
    EXPECT_TRUE(same_bits(got.scaled_sums, want.scaled_sums)) << name;
    EXPECT_TRUE(same_bits(got.low_scaled_sums, want.low_scaled_sums)) << name;
  };
  for (const Kernels* table : all_tables()) {
    Input a(2, kColumns), b(2, kColumns), c(2, kColumns), d(2, kColumns);
    table->quantize(x.data(), kColumns, a.view, 1);
    for (int first = 0; first < kColumns; first += 160)
      table->quantize_part(x.data() + first, first, 160, b.view, 1);
    table->quantize16(x.data(), kColumns, c.view, 1);
    for (int first = 0; first < kColumns; first += 160)
      table->quantize16_part(x.data() + first, first, 160, d.view, 1);
    expect_same(a, narrow, table->name);
    expect_same(b, narrow, table->name);
    expect_same(c, wide, table->name);
    expect_same(d, wide, table->name);
  }
}

/// The low parts of blocks [first, end) are zero, or as before where low_used says so.
void expect_dropped(const Input& got, const Input& before, std::size_t first, std::size_t end) {
  for (std::size_t b = first; b < end; ++b) {
    const auto low = got.low.begin() + static_cast<std::ptrdiff_t>(b * kBlock);
    const bool zero = std::all_of(low, low + kBlock, [](std::int8_t v) { return v == 0; });
    const bool same =
        std::equal(low, low + kBlock, before.low.begin() + static_cast<std::ptrdiff_t>(b * kBlock));
    EXPECT_TRUE(got.low_used[b] != 0 ? same : zero) << "block " << b;
  }
}

TEST(KernelsQuantize, FineBlocksLoseTheirLowPartOnEveryIsaAlike) {
  std::mt19937 random(31);
  constexpr int kColumns = 640;
  constexpr std::size_t kBlocks = kColumns / kBlock;
  const std::vector<float> x = activations(random, kColumns);
  Input before(2, kColumns);
  std::vector<float> squares(2 * kBlocks), other_squares(2 * kBlocks);
  before.view.squares = squares.data();
  scalar_table().quantize16(x.data(), kColumns, before.view, 1);
  for (std::size_t b = 0; b < kBlocks; ++b) {
    const auto block = x.begin() + static_cast<std::ptrdiff_t>(b * kBlock);
    const double exact = std::inner_product(block, block + kBlock, block, 0.0);
    EXPECT_NEAR(squares[kBlocks + b], exact, 1e-6 * exact);
  }
  for (const Kernels* table : all_tables()) {
    Input got(2, kColumns);
    got.view.low_used = got.low_used.data();
    got.view.squares = other_squares.data();
    table->quantize16(x.data(), kColumns, got.view, 1);
    EXPECT_TRUE(same_bits(other_squares, squares)) << table->name;
    table->round_fine_blocks(got.view, 1);
    expect_dropped(got, before, kBlocks, 2 * kBlocks);
    const auto used = std::count(got.low_used.begin() + kBlocks, got.low_used.end(), 1);
    EXPECT_GT(used, 0);
    EXPECT_LT(used, static_cast<std::ptrdiff_t>(kBlocks));
    EXPECT_EQ(got.values, before.values);
    Input derived = got;
    derived.finish();
    EXPECT_EQ(derived.low_sums, got.low_sums);
    EXPECT_TRUE(same_bits(derived.scaled_sums, got.scaled_sums));
    EXPECT_TRUE(same_bits(derived.low_scaled_sums, got.low_scaled_sums));
  }
}

}  // namespace
}  // namespace lapidary
