#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/layout.h"
#include "base/memory.h"
#include "kernels/pack.h"
#include "kernels/split.h"
#include "ops/head_weights.h"

/// For the tests of the head: small output matrices, and what they are multiplied with.
namespace lapidary {

/// A head of random rows, and inputs that some of them are close to, as trained ones are.
class TestHead {
 public:
  /// `hidden`: one weight of each scale is so large that the upper plane holds nothing else.
  /// `period`: after so many rows they repeat.
  TestHead(BlockType type, int rows, int columns, std::uint32_t seed, bool hidden = false,
           int period = 0, bool searchable = true)
      : random_(seed), rows_(rows), columns_(columns) {
    std::vector<float> values(static_cast<std::size_t>(rows * columns));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = normal_(random_) * (hidden ? 0.002F : 0.05F);
      if (hidden && i % (type == BlockType::kQ6_K ? 16 : kernels::kBlock) == 0) values[i] = 0.12F;
      const auto repeated = static_cast<std::size_t>(period * columns);
      if (period > 0 && i >= repeated) values[i] = values[i - repeated];
    }
    shape_head(weights_, type, rows, columns, searchable);
    pack(type, type == BlockType::kQ8_0   ? to_q8(values)
               : type == BlockType::kQ6_K ? to_q6(values)
                                          : as_bytes(values));
    values_ = std::move(values);
  }

  const HeadWeights& weights() const { return weights_; }

  /// The value that the file's row would have without rounding.
  float value(int row, int column) const {
    return values_[static_cast<std::size_t>(row * columns_ + column)];
  }

  /// `likeness` 0: noise, which no bound can tell apart; larger: some rows stand out.
  std::vector<float> input(float likeness) {
    std::vector<float> x(static_cast<std::size_t>(columns_));
    for (float& v : x) v = normal_(random_);
    for (int i = 0; i < 12; ++i) {
      const std::size_t row = random_() % static_cast<std::size_t>(rows_);
      for (std::size_t k = 0; k < x.size(); ++k)
        x[k] += likeness * static_cast<float>(12 - i) * values_[row * x.size() + k];
    }
    return x;
  }

 private:
  static std::vector<std::byte> as_bytes(const std::vector<float>& values) {
    std::vector<std::byte> out(values.size() * sizeof(float));
    std::memcpy(out.data(), values.data(), out.size());
    return out;
  }

  static std::vector<std::byte> to_q8(const std::vector<float>& values) {
    std::vector<std::byte> out(values.size() / kernels::kBlock * 34);
    for (std::size_t b = 0; b < values.size() / kernels::kBlock; ++b) {
      const float* x = values.data() + b * kernels::kBlock;
      const std::uint16_t half = 0x1400;  // 2^-10
      std::memcpy(&out[b * 34], &half, 2);
      for (std::size_t k = 0; k < kernels::kBlock; ++k) {
        const float q = std::clamp(std::nearbyint(x[k] * 1024.0F), -128.0F, 127.0F);
        out[b * 34 + 2 + k] = static_cast<std::byte>(static_cast<std::int8_t>(q));
      }
    }
    return out;
  }

  static std::vector<std::byte> to_q6(const std::vector<float>& values) {
    std::vector<std::byte> out(values.size() / 256 * 210);
    for (std::size_t b = 0; b < values.size() / 256; ++b) {
      const float* x = values.data() + b * 256;
      std::byte* to = &out[b * 210];
      const std::uint16_t half = 0x0800;  // 2^-13
      std::memcpy(to + 208, &half, 2);
      for (std::size_t k = 0; k < 256; ++k) {
        const float* of_scale = x + k / 16 * 16;
        float largest = 0.0F;
        for (int i = 0; i < 16; ++i) largest = std::max(largest, std::fabs(of_scale[i]));
        const float scale = std::clamp(std::ceil(largest * 8192.0F / 31.0F), 1.0F, 127.0F);
        to[192 + k / 16] = static_cast<std::byte>(scale);
        const float level = std::nearbyint(x[k] * 8192.0F / scale);
        const auto q = static_cast<unsigned>(std::clamp(level, -32.0F, 31.0F) + 32.0F);
        // The file's order: 128 values, of which 64 share their bytes' halves.
        const std::size_t j = k % 128;
        to[k / 128 * 64 + j % 64] |= static_cast<std::byte>((q & 15U) << (j < 64 ? 0U : 4U));
        to[128 + k / 128 * 32 + j % 32] |= static_cast<std::byte>((q >> 4) << (j / 32 * 2));
      }
    }
    return out;
  }

  std::byte* allocate(std::size_t bytes) {
    arenas_.emplace_back(Arena::planned(bytes));
    return arenas_.back().allocate(bytes);
  }

  void pack(BlockType type, const std::vector<std::byte>& file) {
    PackedMatrix& panels = weights_.panels;
    PlanesMatrix& planes = weights_.planes;
    panels.panels = allocate(panels.bytes());
    planes.data = allocate(planes.bytes());
    const std::size_t stride = file.size() / static_cast<std::size_t>(rows_);
    for (int p = 0; p < weights_.panel_count(); ++p) {
      const auto index = static_cast<std::size_t>(p);
      const std::byte* rows = file.data() + index * kernels::kPanelRows * stride;
      const int count = std::min(kernels::kPanelRows, rows_ - p * kernels::kPanelRows);
      if (weights_.searchable()) {
        EXPECT_TRUE(
            kernels::pack_split_panel(type, rows, stride, count, columns_, planes.planes(p)));
      }
      if (weights_.in_planes()) continue;
      EXPECT_TRUE(kernels::pack_panel(panels.packing, type, rows, stride, count, columns_,
                                      panels.panels + index * panels.panel_bytes()));
    }
  }

  std::mt19937 random_;
  std::normal_distribution<float> normal_;
  int rows_, columns_;
  std::vector<Arena> arenas_;
  std::vector<float> values_;
  HeadWeights weights_;
};

/// Some tokens as the head reads them.
struct HeadInput {
  Arena arena;
  LinearInput view;

  HeadInput(const std::vector<std::vector<float>>& tokens, int columns) : arena(1 << 20) {
    Layout layout(&arena);
    const int count = static_cast<int>(tokens.size());
    view.dense = layout.rows<float>(count, columns);
    view.quantized = kernels::place_input(layout, count, columns, kernels::ActivationBits::k16);
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      std::copy(tokens[t].begin(), tokens[t].end(), view.dense[static_cast<int>(t)]);
      kernels::best()->quantize16(tokens[t].data(), columns, view.quantized, static_cast<int>(t));
    }
  }
};

struct TestScratch {
  Arena arena;
  std::byte* data;
  explicit TestScratch(int columns)
      : arena(Arena::planned(kernels::matmul_scratch_bytes(columns))),
        data(arena.allocate(kernels::matmul_scratch_bytes(columns))) {}
};

}  // namespace lapidary
