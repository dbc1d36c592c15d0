#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels_tables.h"

namespace lapidary {
namespace {

using kernels::kBfpBlock;
using kernels::kBfpLevels;
using kernels::Kernels;
using kernels::kPanelRows;

using Floats = std::vector<float>;
using Words = std::vector<std::int16_t>;

Floats normals(int n, float scale, std::mt19937& random) {
  std::normal_distribution<float> normal(0.0F, scale);
  Floats x(static_cast<std::size_t>(n));
  for (float& v : x) v = normal(random);
  return x;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

std::size_t size(int n) { return static_cast<std::size_t>(n); }
int blocks_of(int n, int block) { return (n + block - 1) / block; }

/// Runs `test` on every table but the scalar one, with the scalar one beside it.
template <class Test>
void on_each_table(Test&& test) {
  for (const Kernels* table : all_tables()) {
    SCOPED_TRACE(table->name);
    test(*table);
  }
}

TEST(KernelsBfp, LayerNormIsItsFormula) {
  std::mt19937 random(1);
  for (const int n : {2, 15, 16, 17, 72, 1152}) {
    Floats x = normals(n, 3.0F, random);
    for (float& v : x) v += 5.0F;  // A mean that a sum of squares alone would drown in.
    const Floats weight = normals(n, 2.0F, random), bias = normals(n, 1.0F, random);
    double mean = 0, variance = 0;
    for (const float v : x) mean += v;
    mean /= n;
    for (const float v : x) variance += (v - mean) * (v - mean);
    const double scale = 1 / std::sqrt(variance / n + 1e-6);
    Floats want(size(n));
    scalar_table().layernorm(x.data(), weight.data(), bias.data(), n, 1e-6F, want.data());
    for (std::size_t i = 0; i < size(n); ++i)
      EXPECT_NEAR(want[i], (x[i] - mean) * scale * weight[i] + bias[i], 2e-5) << n;
    on_each_table([&](const Kernels& table) {
      Floats got(size(n));
      table.layernorm(x.data(), weight.data(), bias.data(), n, 1e-6F, got.data());
      EXPECT_TRUE(same_bits(got, want)) << n;
    });
  }
}

TEST(KernelsBfp, BiasAndGelu) {
  std::mt19937 random(2);
  for (const int n : {1, 16, 80, 128}) {
    const Floats x = normals(n, 4.0F, random), bias = normals(n, 1.0F, random);
    Floats gelu = x, sum = bias;
    scalar_table().bias_gelu(gelu.data(), bias.data(), n);
    scalar_table().add_bias(sum.data(), x.data(), bias.data(), n);
    for (std::size_t i = 0; i < size(n); ++i) {
      const double v = double{x[i]} + bias[i];
      const double u = std::sqrt(2 / 3.14159265358979) * (v + 0.044715 * v * v * v);
      EXPECT_NEAR(gelu[i], v / 2 * (1 + std::tanh(u)), 2e-6 * std::max(1.0, std::fabs(v)));
      EXPECT_EQ(sum[i], bias[i] + (x[i] + bias[i]));
    }
    on_each_table([&](const Kernels& table) {
      Floats got_gelu = x, got_sum = bias;
      table.bias_gelu(got_gelu.data(), bias.data(), n);
      table.add_bias(got_sum.data(), x.data(), bias.data(), n);
      EXPECT_TRUE(same_bits(got_gelu, gelu));
      EXPECT_TRUE(same_bits(got_sum, sum));
    });
  }
}

TEST(KernelsBfp, RoundingStaysWithinItsBound) {
  std::mt19937 random(3);
  for (const int n : {18, 72, 128, 588, 1152, 4304}) {
    for (const int block : {n < 128 ? n : 72, kBfpBlock}) {
      Floats x = normals(n, 1.0F, random);
      x[size(n) / 2] = 900.0F;                                         // An outlier.
      std::fill(x.begin(), x.begin() + std::min(n, block) / 2, 0.0F);  // Zeros.
      Words values(size(n));
      Floats scales(size(blocks_of(n, block)));
      scalar_table().bfp_quantize(x.data(), n, block, values.data(), scales.data());
      for (int begin = 0; begin < n; begin += block) {
        const int end = std::min(n, begin + block);
        double error = 0, length = 0;
        for (std::size_t i = size(begin); i < size(end); ++i) {
          EXPECT_LE(std::abs(values[i]), kBfpLevels);
          const double off = double{scales[size(begin / block)]} * values[i] - x[i];
          error += off * off;
          length += double{x[i]} * x[i];
        }
        EXPECT_LE(std::sqrt(error),
                  1.001 * std::sqrt(block) / (2 * kBfpLevels) * std::sqrt(length));
      }
      on_each_table([&](const Kernels& table) {
        Words got(size(n));
        Floats got_scales(scales.size());
        table.bfp_quantize(x.data(), n, block, got.data(), got_scales.data());
        EXPECT_TRUE(same_bits(got, values));
        EXPECT_TRUE(same_bits(got_scales, scales));
      });
    }
  }
}

TEST(KernelsBfp, NothingIsRoundedToNothing) {
  const Floats zeros(200, 0.0F), tiny(200, 1e-38F);
  for (const Floats& x : {zeros, tiny}) {
    on_each_table([&](const Kernels& table) {
      Words values(200, 7);
      Floats scales(2, 7.0F);
      table.bfp_quantize(x.data(), 200, kBfpBlock, values.data(), scales.data());
      EXPECT_EQ(values, Words(200, 0));
      EXPECT_EQ(scales, Floats(2, 0.0F));
    });
  }
}

struct Product {
  int tokens, panels, columns, block;
};

/// Integers over the whole range, the extremes among them.
Words random_words(std::size_t n, std::mt19937& random) {
  std::uniform_int_distribution<int> any(-kBfpLevels, kBfpLevels), kind(0, 9);
  Words out(n);
  for (std::int16_t& v : out) {
    const int k = kind(random);
    v = static_cast<std::int16_t>(k == 0 ? kBfpLevels : k == 1 ? -kBfpLevels : any(random));
  }
  return out;
}

Floats multiply(const Kernels& table, const Product& p, const Words& panels,
                const Floats& panel_scales, const Words& values, const Floats& scales,
                const Floats* add_to, int first = 0, int count = -1) {
  const int blocks = blocks_of(p.columns, p.block);
  const std::size_t stride = size(p.panels * kPanelRows);
  if (count < 0) count = p.tokens;
  Floats out(size(count) * stride, -1.0F);
  if (add_to != nullptr)
    std::copy_n(add_to->begin() + first * p.panels * kPanelRows, out.size(), out.begin());
  table.bfp_matmul({.panels = panels.data(),
                    .panel_scales = panel_scales.data(),
                    .panel_count = p.panels,
                    .columns = p.columns,
                    .block = p.block,
                    .values = values.data() + first * p.columns,
                    .value_stride = size(p.columns),
                    .scales = scales.data() + first * blocks,
                    .scale_stride = size(blocks),
                    .tokens = count,
                    .out = out.data(),
                    .out_stride = stride,
                    .accumulate = add_to != nullptr});
  return out;
}

TEST(KernelsBfp, ProductsAreExactPerBlockAndTheSameEverywhere) {
  std::mt19937 random(4);
  for (const Product& p :
       {Product{7, 1, 18, 18}, Product{19, 5, 256, 128}, Product{96, 2, 72, 72},
        Product{5, 3, 588, 128}, Product{25, 2, 4304, 128}, Product{1, 1, 2, 128}}) {
    const int blocks = blocks_of(p.columns, p.block);
    const Words panels = random_words(size(p.panels * p.columns * kPanelRows), random);
    const Words values = random_words(size(p.tokens * p.columns), random);
    const Floats panel_scales = normals(p.panels * blocks * kPanelRows, 1.0F, random);
    const Floats scales = normals(p.tokens * blocks, 1.0F, random);
    const Floats before = normals(p.tokens * p.panels * kPanelRows, 1e6F, random);
    // As the contract in kernels.h says it.
    Floats want(before.size()), want_added = before;
    for (int t = 0; t < p.tokens; ++t) {
      for (int r = 0; r < p.panels * kPanelRows; ++r) {
        const std::size_t at = size(t * p.panels * kPanelRows + r);
        for (int b = 0; b < blocks; ++b) {
          std::int64_t sum = 0;
          for (int k = b * p.block; k < std::min(p.columns, (b + 1) * p.block); ++k) {
            sum += panels[size((r / 16 * p.columns / 2 + k / 2) * 32 + r % 16 * 2 + k % 2)] *
                   values[size(t * p.columns + k)];
          }
          ASSERT_LE(std::abs(sum), std::numeric_limits<std::int32_t>::max());
          const float scale = panel_scales[size((r / 16 * blocks + b) * 16 + r % 16)] *
                              scales[size(t * blocks + b)];
          want[at] = std::fma(static_cast<float>(sum), scale, want[at]);
          want_added[at] = std::fma(static_cast<float>(sum), scale, want_added[at]);
        }
      }
    }
    on_each_table([&](const Kernels& table) {
      EXPECT_TRUE(
          same_bits(multiply(table, p, panels, panel_scales, values, scales, nullptr), want));
      EXPECT_TRUE(
          same_bits(multiply(table, p, panels, panel_scales, values, scales, &before), want_added));
      // One token alone: the same bits as among others.
      const Floats last =
          multiply(table, p, panels, panel_scales, values, scales, nullptr, p.tokens - 1, 1);
      EXPECT_TRUE(same_bits(last, Floats(want.end() - p.panels * kPanelRows, want.end())));
    });
  }
}

TEST(KernelsBfp, TheLargestBlockFits) {
  const Product p{6, 1, 128, 128};
  const Words panels(128 * 16, -kBfpLevels), values(6 * 128, kBfpLevels);
  const Floats panel_scales(16, 1.0F), scales(6, 1.0F);
  const float want = -128.0F * kBfpLevels * kBfpLevels;
  on_each_table([&](const Kernels& table) {
    for (const float v : multiply(table, p, panels, panel_scales, values, scales, nullptr))
      EXPECT_EQ(v, want);
  });
}

TEST(KernelsBfp, ColumnsBecomeRows) {
  std::mt19937 random(5);
  for (const int keys : {16, 128, 256, 96}) {
    constexpr int kStride = 40;
    const Floats x = normals(keys * kStride, 2.0F, random);
    const int blocks = blocks_of(keys, kBfpBlock);
    Words want(size(keys) * 16);
    Floats want_scales(size(blocks) * 16);
    for (int d = 0; d < 16; ++d) {  // A row of the panel is a column of x.
      Floats row(size(keys));
      for (int key = 0; key < keys; ++key) row[size(key)] = x[size(3 + key * kStride + d)];
      Words values(size(keys));
      Floats scales(size(blocks));
      scalar_table().bfp_quantize(row.data(), keys, kBfpBlock, values.data(), scales.data());
      for (int key = 0; key < keys; ++key)
        want[size(key / 2 * 32 + 2 * d + key % 2)] = values[size(key)];
      for (int b = 0; b < blocks; ++b) want_scales[size(b * 16 + d)] = scales[size(b)];
    }
    on_each_table([&](const Kernels& table) {
      Words got(want.size());
      Floats got_scales(want_scales.size());
      table.bfp_pack_columns(x.data() + 3, kStride, keys, got.data(), got_scales.data());
      EXPECT_TRUE(same_bits(got, want));
      EXPECT_TRUE(same_bits(got_scales, want_scales));
    });
  }
}

/// A softmax over `scores` in steps of `step` keys, as weights in fp64.
std::vector<double> softmax(const Kernels& table, const Floats& scores, int step) {
  float maximum = -std::numeric_limits<float>::infinity(), sum = 0;
  std::vector<double> weights;
  for (std::size_t begin = 0; begin < scores.size(); begin += size(step)) {
    Floats part(scores.begin() + static_cast<std::ptrdiff_t>(begin),
                scores.begin() + static_cast<std::ptrdiff_t>(begin) + step);
    Words values(size(step));
    Floats scales(size(blocks_of(step, kBfpBlock)));
    const float decay =
        table.bfp_softmax(part.data(), step, &maximum, &sum, values.data(), scales.data());
    for (double& w : weights) w *= decay;
    for (std::size_t i = 0; i < values.size(); ++i)
      weights.push_back(double{scales[i / kBfpBlock]} * values[i]);
  }
  for (double& w : weights) w /= sum;
  return weights;
}

TEST(KernelsBfp, SoftmaxInSteps) {
  std::mt19937 random(6);
  Floats scores = normals(1024, 4.0F, random);
  scores[700] = 40.0F;                                          // The maximum jumps late,
  for (std::size_t i = 256; i < 512; ++i) scores[i] -= 200.0F;  // and some keys count nothing.
  for (const float top : {40.0F, 5.0F}) {
    scores[700] = top;
    double sum = 0;
    for (const float s : scores) sum += std::exp(double{s} - top);
    const std::vector<double> want = softmax(scalar_table(), scores, 256);
    double total = 0;
    for (std::size_t i = 0; i < want.size(); ++i) {
      const double exact = std::exp(double{scores[i]} - top) / sum;
      double largest = 0;  // Of its block: what the rounding is relative to.
      for (std::size_t j = i / 128 * 128; j < i / 128 * 128 + 128; ++j)
        largest = std::max(largest, std::exp(double{scores[j]} - top) / sum);
      EXPECT_NEAR(want[i], exact, largest * 0.6 / kBfpLevels + 2e-3 * exact + 1e-30);
      total += want[i];
    }
    EXPECT_NEAR(total, 1.0, 1e-6);
    on_each_table([&](const Kernels& table) { EXPECT_EQ(softmax(table, scores, 256), want); });
  }
}

}  // namespace
}  // namespace lapidary
