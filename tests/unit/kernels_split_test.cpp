#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "kernels/half.h"
#include "kernels/pack.h"
#include "kernels/split.h"
#include "kernels_tables.h"

namespace lapidary {
namespace {

using kernels::kBlock;
using kernels::Kernels;
using kernels::kPanelRows;
using kernels::Packing;
using kernels::QuantizedInput;
using kernels::SplitLayout;

constexpr int kRows = 20;  // A whole panel and a part of one.
constexpr int kTokens = 9;

/// Rows of Q8_0 with scales of many sizes and signs; `fill` < 0: random weights, else all the same.
std::vector<std::byte> q8_rows(int columns, int fill, std::mt19937& random) {
  std::vector<std::byte> data(static_cast<std::size_t>(kRows * columns / kBlock * 34));
  for (std::byte& b : data)
    b = static_cast<std::byte>(fill < 0 ? random() & 255U : static_cast<unsigned>(fill));
  for (std::size_t at = 0; at < data.size(); at += 34) {
    const auto half = static_cast<std::uint16_t>((random() & 0x83FFU) | (random() % 20U << 10));
    std::memcpy(&data[at], &half, 2);
  }
  return data;
}

/// The same rows as kQ8Split and, for comparison, as kQ8_0.
struct Matrices {
  std::vector<std::byte> top, middle, low, plain;
  SplitLayout layout;
  int columns;

  Matrices(const std::vector<std::byte>& rows, int width) : layout(width), columns(width) {
    const std::size_t stride = static_cast<std::size_t>(width / kBlock * 34);
    const std::size_t plain_bytes = kernels::panel_bytes(Packing::kQ8_0, width);
    top.resize(2 * layout.top_bytes());
    middle.resize(2 * layout.middle_bytes());
    low.resize(2 * layout.low_bytes());
    plain.resize(2 * plain_bytes);
    for (std::size_t p = 0; p < 2; ++p) {
      const std::byte* data = rows.data() + p * kPanelRows * stride;
      const int count = p == 0 ? kPanelRows : kRows - kPanelRows;
      EXPECT_TRUE(kernels::pack_split_panel(
          BlockType::kQ8_0, data, stride, count, width,
          {top.data() + p * layout.top_bytes(), middle.data() + p * layout.middle_bytes(),
           low.data() + p * layout.low_bytes()}));
      EXPECT_TRUE(kernels::pack_panel(Packing::kQ8_0, BlockType::kQ8_0, data, stride, count, width,
                                      plain.data() + p * plain_bytes));
    }
  }
};

/// Some tokens' activations in 16 bits.
struct Input {
  std::vector<std::int8_t> values, low;
  std::vector<float> scales, scaled_sums, low_scaled_sums;
  std::vector<std::int16_t> sums, low_sums;
  QuantizedInput view;

  Input(const Kernels& table, const std::vector<float>& x, int columns)
      : values(x.size()),
        low(x.size()),
        scales(x.size() / kBlock),
        scaled_sums(scales.size()),
        low_scaled_sums(scales.size()),
        sums(kernels::kBlockSums * scales.size()),
        low_sums(kernels::kBlockSums * scales.size()),
        view{.values = values.data(),
             .low = low.data(),
             .scales = scales.data(),
             .sums = sums.data(),
             .low_sums = low_sums.data(),
             .low_used = nullptr,
             .scaled_sums = scaled_sums.data(),
             .low_scaled_sums = low_scaled_sums.data(),
             .columns = columns} {
    for (int t = 0; t < kTokens; ++t)
      table.quantize16(x.data() + static_cast<std::size_t>(t * columns), columns, view, t);
  }
};

std::vector<float> activations(int columns, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(kTokens * columns));
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = normal(random) * std::ldexp(1.0F, static_cast<int>(i / kBlock % 5) * 2 - 4);
  x[7] = 300.0F;
  return x;
}

/// [tokens][32] products of both panels.
std::vector<float> multiply(const Kernels& table, bool wide, Packing packing, const Matrices& m,
                            const QuantizedInput& input, int tokens) {
  std::vector<float> out(static_cast<std::size_t>(2 * kPanelRows * tokens), -7.0F);
  std::vector<std::byte> memory(kernels::matmul_scratch_bytes(m.columns) + 64);
  void* scratch = memory.data();
  std::size_t space = memory.size();
  std::align(64, memory.size() - 64, scratch, space);
  const bool plain = packing == Packing::kQ8_0;
  const kernels::MatmulArgs args{
      .panels = plain ? m.plain.data() : m.top.data(),
      .panel_bytes = plain ? m.plain.size() / 2 : m.layout.top_bytes(),
      .columns = m.columns,
      .panel_begin = 0,
      .panel_end = 2,
      .input = &input,
      .dense_input = nullptr,
      .token_begin = kTokens - tokens,
      .tokens = tokens,
      .out = out.data(),
      .out_stride = 2 * kPanelRows,
      .scratch = static_cast<std::byte*>(scratch),
      .low = packing == Packing::kQ8Top5 ? m.middle.data() : m.low.data()};
  (wide ? table.matmul16 : table.matmul)[static_cast<int>(packing)](args);
  return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(KernelsSplit, ProductsAreThoseOfQ8BitForBit) {
  std::mt19937 random(3);
  for (const int columns : {32, 64, 160, 640, 1152}) {
    for (const int fill : {-1, 0x80, 0x7F, 0x0F, 0xF0}) {
      const Matrices m(q8_rows(columns, fill, random), columns);
      const Input input(scalar_table(), activations(columns, random), columns);
      for (const bool wide : {false, true}) {
        for (const int tokens : {1, 2, 3, 4, 8, 9}) {
          const auto want = multiply(scalar_table(), wide, Packing::kQ8_0, m, input.view, tokens);
          for (const Kernels* table : all_tables()) {
            ASSERT_TRUE(
                same_bits(multiply(*table, wide, Packing::kQ8Split, m, input.view, tokens), want))
                << table->name << " columns " << columns << " tokens " << tokens << " wide "
                << wide;
          }
        }
      }
    }
  }
}

TEST(KernelsSplit, TheUpperBitsAloneAreTheSameOnEveryIsa) {
  std::mt19937 random(5);
  for (const int columns : {32, 160, 640}) {
    const Matrices m(q8_rows(columns, -1, random), columns);
    const Input input(scalar_table(), activations(columns, random), columns);
    for (const auto& [packing, tokens] :
         std::vector<std::pair<Packing, int>>{{Packing::kQ8Top, 1},
                                              {Packing::kQ8Top, 2},
                                              {Packing::kQ8Top, 5},
                                              {Packing::kQ8Top, 9},
                                              {Packing::kQ8Top5, 1},
                                              {Packing::kQ8Top5, 2},
                                              {Packing::kQ8Top5, 9}}) {
      const auto want = multiply(scalar_table(), true, packing, m, input.view, tokens);
      for (const Kernels* table : all_tables()) {
        ASSERT_TRUE(same_bits(multiply(*table, true, packing, m, input.view, tokens), want))
            << table->name << " columns " << columns << " tokens " << tokens;
      }
    }
  }
}

TEST(KernelsSplit, RowsAreUnpackedToTheFilesValues) {
  std::mt19937 random(7);
  constexpr int kColumns = 640;
  const auto rows = q8_rows(kColumns, -1, random);
  const Matrices m(rows, kColumns);
  std::vector<float> got(kColumns), want(kColumns);
  for (int r = 0; r < kRows; ++r) {
    const auto p = static_cast<std::size_t>(r / kPanelRows);
    kernels::unpack_split_row(m.top.data() + p * m.layout.top_bytes(),
                              m.low.data() + p * m.layout.low_bytes(), r % kPanelRows, kColumns,
                              got.data());
    kernels::unpack_row(Packing::kQ8_0, m.plain.data() + p * m.plain.size() / 2, r % kPanelRows,
                        kColumns, want.data());
    EXPECT_EQ(got, want) << "row " << r;
  }
}

/// ScreenInput of token 0, and what it points at.
struct Screen {
  std::vector<std::int8_t> norms;
  std::vector<float> low, high, centre;
  kernels::ScreenInput view;

  Screen(const Input& input, int blocks, int bits)
      : norms(static_cast<std::size_t>((blocks + 3) / 4 * 4)),
        low(static_cast<std::size_t>(16 * blocks)),
        high(low.size()),
        centre(low.size()) {
    std::vector<double> lengths;
    double longest = 0;
    for (std::size_t b = 0; b < static_cast<std::size_t>(blocks); ++b) {
      double sum = 0;
      for (std::size_t j = 0; j < kBlock; ++j) {
        const double v =
            input.scales[b] * (input.values[b * kBlock + j] + input.low[b * kBlock + j] / 254.0);
        sum += v * v;
        (j < 16 ? low : high)[16 * b + j % 16] = static_cast<float>(v);
      }
      for (std::size_t j = 0; j < 16; ++j) high[16 * b + j] -= 16 * low[16 * b + j];
      centre[16 * b] =
          (bits == 4 ? -7.5F : -3.5F) * (input.scaled_sums[b] + input.low_scaled_sums[b] / 254);
      lengths.push_back(std::sqrt(sum));
      longest = std::max(longest, lengths.back());
    }
    const double unit = longest / kernels::kNormLevels * (1 + 1e-5);
    for (std::size_t b = 0; b < lengths.size(); ++b)
      norms[b] = static_cast<std::int8_t>(std::ceil(lengths[b] / unit));
    view = {blocks,      norms.data(),  static_cast<float>(unit * 1.02), low.data(),
            high.data(), centre.data(), bits == 4 ? 0xFF : 0x77};
  }
};

/// Bounds from the upper `bits` bits hold, and the low plane closes them.
void check_bounds(const Matrices& m, const Input& input, int bits) {
  const Screen screen(input, m.layout.blocks, bits);
  const Packing packing = bits == 4 ? Packing::kQ8Top : Packing::kQ8Top5;
  const auto estimates = multiply(scalar_table(), true, packing, m, input.view, kTokens);
  const auto exact = multiply(scalar_table(), true, Packing::kQ8_0, m, input.view, kTokens);
  for (const Kernels* table : all_tables()) {
    for (std::size_t p = 0; p < 2; ++p) {
      const std::byte* bounds =
          bits == 4 ? m.top.data() + p * m.layout.top_bytes() + m.layout.bounds()
                    : m.middle.data() + p * m.layout.middle_bytes() + m.layout.middle_bounds();
      const float* estimate = estimates.data() + p * kPanelRows;
      float upper[kPanelRows];
      const float peak = table->screen_panel(bounds, screen.view, estimate, upper);
      EXPECT_EQ(peak, *std::max_element(estimate, estimate + kPanelRows)) << table->name;
      for (int r = 0; r < kPanelRows; ++r) {
        const float want = exact[p * kPanelRows + static_cast<std::size_t>(r)];
        const float bound = upper[r] - estimate[r];
        ASSERT_LE(want, upper[r]) << table->name << " row " << r << " bits " << bits;
        ASSERT_GE(want, estimate[r] - bound) << table->name << " row " << r << " bits " << bits;
        const float low =
            table->screen_row(m.low.data() + p * m.layout.low_bytes(), r, screen.view);
        ASSERT_NEAR(estimate[r] + low, want, 0.005F * bound)
            << table->name << " row " << r << " bits " << bits;
      }
    }
  }
}

TEST(KernelsSplit, BoundsHoldAndTheLowPlaneClosesThem) {
  std::mt19937 random(11);
  for (const int columns : {32, 96, 640, 1152}) {
    for (const int fill : {-1, 0x00, 0xFF, 0x07}) {
      const Matrices m(q8_rows(columns, fill, random), columns);
      const Input input(scalar_table(), activations(columns, random), columns);
      check_bounds(m, input, 4);
      check_bounds(m, input, 5);
    }
  }
}

TEST(KernelsSplit, CopiesOfFloatsAreBoundedByWhatTheFileHolds) {
  std::mt19937 random(13);
  std::normal_distribution<float> normal;
  constexpr int kColumns = 320;
  constexpr auto kWidth = static_cast<std::size_t>(kColumns);
  const SplitLayout layout(kColumns);
  std::vector<float> rows(kPanelRows * kWidth);
  for (float& v : rows) v = normal(random) * 0.03F;
  rows[5] = 4.0F;
  std::vector<std::byte> top(layout.top_bytes()), middle(layout.middle_bytes()),
      low(layout.low_bytes());
  ASSERT_TRUE(kernels::pack_split_panel(
      BlockType::kF32, reinterpret_cast<const std::byte*>(rows.data()), kWidth * sizeof(float),
      kPanelRows, kColumns, {top.data(), middle.data(), low.data()}));
  std::vector<float> copy(kWidth);
  for (int r = 0; r < kPanelRows; ++r) {
    kernels::unpack_split_row(top.data(), low.data(), r, kColumns, copy.data());
    double rest = 0;
    for (std::size_t k = 0; k < kWidth; ++k) {
      const double d = double{rows[static_cast<std::size_t>(r) * kWidth + k]} - copy[k];
      rest += d * d;
    }
    float stored;
    std::memcpy(&stored, low.data() + layout.rests() + 4 * static_cast<std::size_t>(r), 4);
    EXPECT_GE(stored, std::sqrt(rest));
    EXPECT_LE(stored, std::sqrt(rest) * 1.0001 + 1e-9);
    EXPECT_LE(rest, r == 0 ? 4e-3 : 4e-5) << "the copy is close";
  }
  rows[3] = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(kernels::pack_split_panel(
      BlockType::kF32, reinterpret_cast<const std::byte*>(rows.data()), kWidth * sizeof(float),
      kPanelRows, kColumns, {top.data(), middle.data(), low.data()}));
}

}  // namespace
}  // namespace lapidary
