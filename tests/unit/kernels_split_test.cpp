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
#include "owned_input.h"

namespace lapidary {
namespace {

using kernels::kBlock;
using kernels::Kernels;
using kernels::kPanelRows;
using kernels::Packing;
using kernels::QuantizedInput;
using kernels::SplitLayout;

constexpr int kRows = 20;  // A whole panel and a part of one.
constexpr int kTokens = 17;

/// A file's form, in planes and as it is packed otherwise.
struct Form {
  BlockType type;
  Packing split, plain;
  std::size_t values, bytes, half;  // A block's values and bytes, and where its fp16 scale is.
};
constexpr Form kQ8{BlockType::kQ8_0, Packing::kQ8Split, Packing::kQ8_0, 32, 34, 0};
constexpr Form kQ6{BlockType::kQ6_K, Packing::kQ6Split, Packing::kQ6_K, 256, 210, 208};

/// Rows with scales of many sizes and signs; `fill` < 0: random weights, else all the same.
std::vector<std::byte> file_rows(const Form& form, int columns, int fill, std::mt19937& random) {
  std::vector<std::byte> data(kRows * static_cast<std::size_t>(columns) / form.values * form.bytes);
  for (std::byte& b : data)
    b = static_cast<std::byte>(fill < 0 ? random() & 255U : static_cast<unsigned>(fill));
  for (std::size_t at = 0; at < data.size(); at += form.bytes) {
    const auto half = static_cast<std::uint16_t>((random() & 0x83FFU) | (random() % 20U << 10));
    std::memcpy(&data[at + form.half], &half, 2);
    if (form.type == BlockType::kQ6_K && fill >= 0)
      std::memset(&data[at + 192], random() % 2U != 0 ? 0x80 : static_cast<int>(random() & 255U),
                  16);
  }
  return data;
}

/// The same rows in planes and, for comparison, as they are packed otherwise.
struct Matrices {
  Form form;
  SplitLayout layout;
  int columns;
  std::vector<std::byte> top, middle, low, plain;

  Matrices(const Form& of, int width, int fill, std::mt19937& random)
      : form(of),
        layout(of.split, width),
        columns(width),
        top(2 * layout.top_bytes()),
        middle(2 * layout.middle_bytes()),
        low(2 * layout.low_bytes()),
        plain(2 * kernels::panel_bytes(of.plain, width)) {
    const std::vector<std::byte> rows = file_rows(form, width, fill, random);
    const std::size_t stride = rows.size() / kRows;
    for (int p = 0; p < 2; ++p) {
      const std::byte* data = rows.data() + static_cast<std::size_t>(p) * kPanelRows * stride;
      const int count = p == 0 ? kPanelRows : kRows - kPanelRows;
      EXPECT_TRUE(kernels::pack_split_panel(form.type, data, stride, count, width, planes(p)));
      EXPECT_TRUE(
          kernels::pack_panel(form.plain, form.type, data, stride, count, width,
                              plain.data() + static_cast<std::size_t>(p) * plain.size() / 2));
    }
  }
  kernels::SplitPanels planes(int panel) {
    const auto p = static_cast<std::size_t>(panel);
    return {top.data() + p * layout.top_bytes(), middle.data() + p * layout.middle_bytes(),
            low.data() + p * layout.low_bytes()};
  }
};

/// Activations of kTokens tokens in 16 bits.
struct Input : OwnedInput {
  Input(const Kernels& table, const std::vector<float>& x, int columns)
      : OwnedInput(kTokens, columns) {
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

/// Every block of one size; all of a token's values have one sign.
std::vector<float> flat(int columns) {
  std::vector<float> x(static_cast<std::size_t>(kTokens * columns));
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = std::ldexp(i / static_cast<std::size_t>(columns) % 2 == 0 ? 1.0F : -1.0F,
                      static_cast<int>(i / kBlock % 5) - 2);
  return x;
}

/// [tokens][32] products of both panels.
std::vector<float> multiply(const Kernels& table, Packing packing, const Matrices& m,
                            const QuantizedInput& input, int tokens) {
  std::vector<float> out(static_cast<std::size_t>(2 * kPanelRows * tokens), -7.0F);
  std::vector<std::byte> memory(kernels::matmul_scratch_bytes(m.columns) + 64);
  void* scratch = memory.data();
  std::size_t space = memory.size();
  std::align(64, memory.size() - 64, scratch, space);
  const bool plain = packing == m.form.plain;
  const kernels::MatmulArgs args{.panels = plain ? m.plain.data() : m.top.data(),
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
                                 .scratch = static_cast<std::byte*>(scratch)};
  if (plain) {
    table.matmul16[static_cast<int>(packing)](args);
  } else {
    table.matmul_planes[static_cast<int>(packing) - kernels::kPanelPackings](
        {args, packing == Packing::kQ8Top5 ? m.middle.data() : m.low.data()});
  }
  return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class KernelsSplit : public ::testing::TestWithParam<Form> {
 protected:
  std::vector<int> widths() const {
    return form_.values == 32 ? std::vector{32, 64, 160, 640, 1152} : std::vector{256, 768, 4352};
  }

  const Form form_ = GetParam();
  std::mt19937 random_{3};
};

TEST_P(KernelsSplit, ProductsAreThoseOfTheOtherPackingBitForBit) {
  for (const int columns : widths()) {
    for (const int fill : {-1, 0x80, 0x7F, 0x0F, 0xF0}) {
      const Matrices m(form_, columns, fill, random_);
      const Input input(scalar_table(), activations(columns, random_), columns);
      for (const int tokens : {1, 2, 3, 4, 8, 9, 17}) {
        const auto want = multiply(scalar_table(), form_.plain, m, input.view, tokens);
        for (const Kernels* table : all_tables()) {
          ASSERT_TRUE(same_bits(multiply(*table, form_.split, m, input.view, tokens), want))
              << table->name << " columns " << columns << " tokens " << tokens;
        }
      }
    }
  }
}

TEST_P(KernelsSplit, TheUpperBitsAloneAreTheSameOnEveryIsa) {
  std::vector<Packing> packings{SplitLayout(form_.split, 256).top_packing()};
  if (form_.split == Packing::kQ8Split) packings.push_back(Packing::kQ8Top5);
  for (const int columns : widths()) {
    for (const int fill : {-1, 0x00, 0xFF}) {
      const Matrices m(form_, columns, fill, random_);
      for (const auto& x : {activations(columns, random_), flat(columns)}) {
        const Input input(scalar_table(), x, columns);
        for (const Packing packing : packings) {
          for (const int tokens : {1, 2, 5, 9}) {
            const auto want = multiply(scalar_table(), packing, m, input.view, tokens);
            for (const Kernels* table : all_tables()) {
              ASSERT_TRUE(same_bits(multiply(*table, packing, m, input.view, tokens), want))
                  << table->name << " columns " << columns << " tokens " << tokens;
            }
          }
        }
      }
    }
  }
}

TEST_P(KernelsSplit, RowsAreUnpackedToTheFilesValues) {
  const int columns = widths().back();
  Matrices m(form_, columns, -1, random_);
  std::vector<float> got(static_cast<std::size_t>(columns)), want(got.size());
  for (int r = 0; r < kRows; ++r) {
    const kernels::SplitPanels planes = m.planes(r / kPanelRows);
    kernels::unpack_split_row(m.layout, planes.top, planes.low, r % kPanelRows, got.data());
    kernels::unpack_row(
        form_.plain, m.plain.data() + static_cast<std::size_t>(r / kPanelRows) * m.plain.size() / 2,
        r % kPanelRows, columns, want.data());
    EXPECT_EQ(got, want) << "row " << r;
  }
}

TEST_P(KernelsSplit, AScaleThatIsNotFiniteIsRefused) {
  for (const std::uint16_t half :
       {std::uint16_t{0x7C00}, std::uint16_t{0xFC00}, std::uint16_t{0x7E00}}) {
    std::vector<std::byte> rows = file_rows(form_, 512, -1, random_);
    std::memcpy(&rows[2 * rows.size() / kRows - form_.bytes + form_.half], &half, 2);
    Matrices m(form_, 512, -1, random_);
    EXPECT_FALSE(kernels::pack_split_panel(form_.type, rows.data(), rows.size() / kRows, 2, 512,
                                           m.planes(0)));
  }
}

/// ScreenInput of token 0, and what it points at.
struct Screen {
  std::vector<std::int8_t> norms;
  std::vector<float> low, high, centre;
  std::vector<kernels::TwoBitInput> two_bits;
  kernels::ScreenInput view;

  Screen(const Input& input, int blocks, int bits)
      : norms(static_cast<std::size_t>((blocks + 3) / 4 * 4)),
        low(static_cast<std::size_t>(16 * blocks)),
        high(low.size()),
        centre(low.size()),
        two_bits(static_cast<std::size_t>((blocks + 7) / 8)) {
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
      set_two_bits(input, b);
      lengths.push_back(std::sqrt(sum));
      longest = std::max(longest, lengths.back());
    }
    const double unit = longest / kernels::kNormLevels * (1 + 1e-5);
    for (std::size_t b = 0; b < lengths.size(); ++b)
      norms[b] = static_cast<std::int8_t>(std::ceil(lengths[b] / unit));
    view = {
        blocks,      norms.data(),  static_cast<float>(unit * 1.02), two_bits.data(), low.data(),
        high.data(), centre.data(), bits == 4 ? 0xFF : 0x77};
  }

  void set_two_bits(const Input& input, std::size_t b) {
    kernels::TwoBitInput& to = two_bits[b / 8];
    for (std::size_t k = 0; k < kBlock; ++k) {
      const std::size_t byte = b % 8 * 8 + k / 16 * 4 + k % 4;
      to.high[k / 4 % 4][byte] = input.values[b * kBlock + k];
      to.low[k / 4 % 4][byte] = input.low[b * kBlock + k];
      const std::size_t half = b % 8 * 2 + k / 16;
      to.scales[half] = input.scales[b];
      to.centres[half] += 1.5F * (static_cast<float>(input.values[b * kBlock + k]) +
                                  static_cast<float>(input.low[b * kBlock + k]) / 254);
    }
  }
};

/// Bounds from the upper `bits` bits hold, and the low plane closes them.
void check_bounds(Matrices& m, const Input& input, int bits) {
  const Screen screen(input, m.layout.blocks, bits);
  const bool two_bits = m.form.split == Packing::kQ6Split;
  const Packing packing = bits == 4 ? m.layout.top_packing() : Packing::kQ8Top5;
  const auto estimates = multiply(scalar_table(), packing, m, input.view, kTokens);
  const auto exact = multiply(scalar_table(), m.form.plain, m, input.view, kTokens);
  for (const Kernels* table : all_tables()) {
    for (int p = 0; p < 2; ++p) {
      const kernels::SplitPanels planes = m.planes(p);
      const std::byte* bounds =
          bits == 4 ? planes.top + m.layout.bounds() : planes.middle + m.layout.middle_bounds();
      const float* estimate = estimates.data() + p * kPanelRows;
      float upper[kPanelRows];
      const float peak = table->screen_panel(bounds, screen.view, estimate, upper);
      EXPECT_EQ(peak, *std::max_element(estimate, estimate + kPanelRows)) << table->name;
      for (int r = 0; r < kPanelRows; ++r) {
        const float want = exact[static_cast<std::size_t>(p * kPanelRows + r)];
        const float bound = upper[r] - estimate[r];
        ASSERT_LE(want, upper[r]) << table->name << " row " << r << " bits " << bits;
        ASSERT_GE(want, estimate[r] - bound) << table->name << " row " << r << " bits " << bits;
        const float low =
            (two_bits ? table->screen_two_bit_row : table->screen_row)(planes.low, r, screen.view);
        ASSERT_NEAR(estimate[r] + low, want, 0.005F * bound)
            << table->name << " row " << r << " bits " << bits;
      }
    }
  }
}

TEST_P(KernelsSplit, BoundsHoldAndTheLowPlaneClosesThem) {
  for (const int columns : widths()) {
    for (const int fill : {-1, 0x00, 0xFF, 0x07}) {
      Matrices m(form_, columns, fill, random_);
      for (const auto& x : {activations(columns, random_), flat(columns)}) {
        const Input input(scalar_table(), x, columns);
        check_bounds(m, input, 4);
        if (form_.split == Packing::kQ8Split) check_bounds(m, input, 5);
      }
    }
  }
}

TEST(KernelsSplitPairs, BoundsAreNotWiderThanWhatTheLowPlaneCanAdd) {
  constexpr int kColumns = 256;
  std::mt19937 random(17);
  for (const int fill : {0x00, 0xFF}) {  // Every low part is 0, or 3.
    Matrices m(kQ6, kColumns, fill, random);
    const Input input(scalar_table(), flat(kColumns), kColumns);
    const Screen screen(input, kColumns / kBlock, 4);
    const auto estimates = multiply(scalar_table(), Packing::kQ6Top, m, input.view, kTokens);
    float upper[kPanelRows];
    scalar_table().screen_panel(m.planes(0).top + m.layout.bounds(), screen.view, estimates.data(),
                                upper);
    for (int r = 0; r < kPanelRows; ++r) {
      const float low = scalar_table().screen_two_bit_row(m.planes(0).low, r, screen.view);
      const float bound = upper[r] - estimates[static_cast<std::size_t>(r)];
      EXPECT_LE(bound, 1.2F * std::fabs(low)) << "row " << r;
    }
  }
}

TEST(KernelsSplitCopies, OfFloatsAreBoundedByWhatTheFileHolds) {
  std::mt19937 random(13);
  std::normal_distribution<float> normal;
  constexpr int kColumns = 320;
  constexpr auto kWidth = static_cast<std::size_t>(kColumns);
  const SplitLayout layout(Packing::kQ8Split, kColumns);
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
    kernels::unpack_split_row(layout, top.data(), low.data(), r, copy.data());
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

INSTANTIATE_TEST_SUITE_P(Forms, KernelsSplit, ::testing::Values(kQ8, kQ6), [](const auto& form) {
  return form.param.type == BlockType::kQ8_0 ? "Q8_0" : "Q6_K";
});

}  // namespace
}  // namespace lapidary
