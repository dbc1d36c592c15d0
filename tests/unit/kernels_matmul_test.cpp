#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "kernels/pack.h"
#include "kernels_data.h"
#include "kernels_tables.h"

namespace lapidary {
namespace {

std::vector<float> multiply(const Kernels& table, Packing packing, bool in_16_bits, const Matrix& m,
                            int columns, const QuantizedInput* input, const float* dense,
                            int token_begin, int tokens) {
  constexpr std::size_t kStride = 2 * kPanelRows + 3;
  std::vector<float> out(kStride * static_cast<std::size_t>(tokens), -77.0F);
  std::vector<std::byte> memory(kernels::matmul_scratch_bytes(columns) + 64);
  void* scratch = memory.data();
  std::size_t space = memory.size();
  std::align(64, memory.size() - 64, scratch, space);
  const kernels::MatmulArgs args{m.panels.data(),
                                 m.panel_bytes,
                                 columns,
                                 0,
                                 2,
                                 input,
                                 dense,
                                 token_begin,
                                 tokens,
                                 out.data(),
                                 kStride,
                                 static_cast<std::byte*>(scratch)};
  (in_16_bits ? table.matmul16 : table.matmul)[static_cast<int>(packing)](args);
  return out;
}

/// The contract of kernels.h, with sums in 64 bits.
float expected(Packing packing, bool in_16_bits, const Matrix& m, int columns, const Input& input,
               int row, int token) {
  float high_product = 0.0F, low_product = 0.0F;
  for (int b = 0; b < columns / kBlock; ++b) {
    kernels::RowBlock w;
    kernels::read_row_block(
        packing, m.panels.data() + static_cast<std::size_t>(row / kPanelRows) * m.panel_bytes, b,
        row % kPanelRows, w);
    const auto block = static_cast<std::size_t>(token * (columns / kBlock) + b);
    std::int64_t high = 0, low = 0;
    for (std::size_t k = 0; k < kBlock; ++k) {
      high += std::int64_t{w.values[k]} * input.values[block * kBlock + k];
      low += std::int64_t{w.values[k]} * input.low[block * kBlock + k];
    }
    const float scale = w.scale * input.scales[block];
    high_product = std::fma(static_cast<float>(high), scale, high_product);
    low_product = std::fma(static_cast<float>(low), scale, low_product);
    if (kernels::packed_traits(packing).scheme == kernels::Scheme::kHalfAffine) {
      std::int64_t high_minimums = 0, low_minimums = 0;
      for (std::size_t k = 0; k < kBlock; ++k) {
        high_minimums += std::int64_t{w.minimums[k / 16]} * input.values[block * kBlock + k];
        low_minimums += std::int64_t{w.minimums[k / 16]} * input.low[block * kBlock + k];
      }
      const float offset = w.offset * input.scales[block];
      high_product = std::fma(static_cast<float>(high_minimums), offset, high_product);
      low_product = std::fma(static_cast<float>(low_minimums), offset, low_product);
    } else {
      high_product = std::fma(w.offset, input.scaled_sums[block], high_product);
      low_product = std::fma(w.offset, input.low_scaled_sums[block], low_product);
    }
  }
  return in_16_bits ? std::fma(low_product, 1.0F / 254, high_product) : high_product;
}

void check_matrix(const BlockTraits& type, const Matrix& m, int columns, bool extreme,
                  std::mt19937& random) {
  constexpr int kTokens[] = {1, 2, 3, 4, 5, 7, 8, 9, 13, 19};
  for (const bool in_16_bits : {false, true}) {
    Input input(21, columns);
    fill_input(input, extreme, random);
    for (const int tokens : kTokens) {
      const auto reference = multiply(scalar_table(), type.packing, in_16_bits, m, columns,
                                      &input.view, nullptr, 2, tokens);
      for (const int row : {0, 5, 15, 19}) {
        const std::size_t last =
            static_cast<std::size_t>(tokens - 1) * 35 + static_cast<std::size_t>(row);
        ASSERT_EQ(reference[last],
                  expected(type.packing, in_16_bits, m, columns, input, row, tokens + 1))
            << type.name;
      }
      for (const Kernels* table : all_tables()) {
        const auto got =
            multiply(*table, type.packing, in_16_bits, m, columns, &input.view, nullptr, 2, tokens);
        ASSERT_TRUE(same_bits(got, reference))
            << table->name << ' ' << type.name << " columns " << columns << " tokens " << tokens
            << (in_16_bits ? " 16 bits" : " 8 bits") << (extreme ? " extreme" : " random");
      }
    }
  }
}

TEST(KernelsMatmul, EveryIsaEqualsScalarBitForBit) {
  std::mt19937 random(7);
  for (const BlockTraits& type : quantized_types()) {
    for (const int columns : {32, 64, 256, 512, 640, 1152}) {
      if (columns % static_cast<int>(type.values) != 0) continue;
      const Matrix m =
          pack(type.packing, type.type, file_rows(type, kRows, columns, -1, random), columns);
      check_matrix(type, m, columns, false, random);
    }
  }
}

TEST(KernelsMatmul, ExtremeWeightsAndActivationsStayExact) {
  std::mt19937 random(11);
  for (const BlockTraits& type : quantized_types()) {
    for (const int fill : {0x00, 0xFF, 0x80, 0x7F, 0xF0, 0x0F}) {
      const Matrix m =
          pack(type.packing, type.type, file_rows(type, kRows, 512, fill, random), 512);
      check_matrix(type, m, 512, true, random);
    }
  }
}

TEST(KernelsMatmul, ProductsMatchTheDequantisedRows) {
  std::mt19937 random(13);
  for (const BlockTraits& type : quantized_types()) {
    constexpr int kColumns = 768;
    const Matrix m =
        pack(type.packing, type.type, file_rows(type, kRows, kColumns, -1, random), kColumns);
    Input input(1, kColumns);
    fill_input(input, false, random);
    const auto got =
        multiply(scalar_table(), type.packing, false, m, kColumns, &input.view, nullptr, 0, 1);
    std::vector<float> row(kColumns);
    for (int r = 0; r < kRows; ++r) {
      kernels::unpack_row(
          type.packing, m.panels.data() + static_cast<std::size_t>(r / kPanelRows) * m.panel_bytes,
          r % kPanelRows, kColumns, row.data());
      double want = 0.0, magnitude = 0.0;
      for (std::size_t k = 0; k < kColumns; ++k) {
        const double term = double{row[k]} * double{input.scales[k / kBlock]} * input.values[k];
        want += term;
        magnitude += std::fabs(term);
      }
      // Each of 24 blocks rounds its scale, its two steps and its scaled sum; affine parts may
      // exceed the whole, thus the factor.
      EXPECT_NEAR(got[static_cast<std::size_t>(r)], want, 24 * 8 * 0x1p-24 * 4 * magnitude)
          << type.name << " row " << r;
    }
    for (std::size_t r = kRows; r < 2 * kPanelRows; ++r)
      EXPECT_EQ(got[r], 0.0F) << "rows that the matrix lacks";
  }
}

TEST(KernelsMatmul, DenseMatricesOnEveryIsa) {
  std::mt19937 random(17);
  std::normal_distribution<float> normal;
  for (const Packing packing : {Packing::kBF16, Packing::kF16}) {
    const BlockType type = packing == Packing::kF16 ? BlockType::kF16 : BlockType::kF32;
    for (const int columns : {32, 64, 256, 640, 1152}) {
      std::vector<std::byte> rows(row_bytes(type, columns) * kRows);
      for (std::size_t at = 0; at < rows.size(); at += type == BlockType::kF16 ? 2 : 4) {
        const float value = normal(random);
        const auto half = static_cast<std::uint16_t>((random() & 0x83FFU) | (random() % 18U << 10));
        std::memcpy(&rows[at], type == BlockType::kF16 ? static_cast<const void*>(&half) : &value,
                    type == BlockType::kF16 ? 2 : 4);
      }
      const Matrix m = pack(packing, type, rows, columns);
      std::vector<float> x(static_cast<std::size_t>(15 * columns));
      for (float& v : x) v = normal(random);
      for (const int tokens : {1, 2, 3, 4, 5, 7, 8, 9, 13}) {
        const auto reference =
            multiply(scalar_table(), packing, false, m, columns, nullptr, x.data(), 2, tokens);
        std::vector<float> row(static_cast<std::size_t>(columns));
        kernels::unpack_row(packing, m.panels.data(), 3, columns, row.data());
        float acc = 0.0F;
        for (std::size_t k = 0; k < row.size(); ++k)
          acc = std::fma(x[row.size() * static_cast<std::size_t>(tokens + 1) + k], row[k], acc);
        ASSERT_EQ(reference[static_cast<std::size_t>(tokens - 1) * 35 + 3], acc);
        for (const Kernels* table : all_tables()) {
          ASSERT_TRUE(
              same_bits(multiply(*table, packing, false, m, columns, nullptr, x.data(), 2, tokens),
                        reference))
              << table->name << " columns " << columns << " tokens " << tokens;
        }
      }
    }
  }
}

TEST(KernelsMatmul, LowBlocksThatAreSkippedChangeNothing) {
  std::mt19937 random(37);
  constexpr int kColumns = 512, kTokens = 13;
  for (const BlockTraits& type : quantized_types()) {
    const Matrix m =
        pack(type.packing, type.type, file_rows(type, kRows, kColumns, -1, random), kColumns);
    Input input(kTokens, kColumns);
    fill_input(input, false, random);
    drop_some_low(input, random);
    for (const int tokens : {1, 2, 3, 4, kTokens}) {
      const auto want = multiply(scalar_table(), type.packing, true, m, kColumns, &input.view,
                                 nullptr, 0, tokens);
      QuantizedInput flagged = input.view;
      flagged.low_used = input.low_used.data();
      for (const Kernels* table : all_tables()) {
        EXPECT_TRUE(same_bits(
            multiply(*table, type.packing, true, m, kColumns, &flagged, nullptr, 0, tokens), want))
            << table->name << ' ' << type.name << " tokens " << tokens;
      }
    }
  }
}

/// `input` with the low blocks gathered.
QuantizedInput gather(const Input& input, int tokens) {
  QuantizedInput view = input.view;
  view.low_used = input.low_used.data();
  view.gathered = input.gathered;
  view.gathered.ready = true;
  const std::size_t counts = view.blocks((tokens + kernels::kLowTokens - 1) / kernels::kLowTokens);
  std::fill_n(view.gathered.counts, counts, std::uint8_t{77});  // What an earlier product left.
  kernels::gather_low_blocks(view, tokens, 0, 5);
  kernels::gather_low_blocks(view, tokens, 5, view.columns / kBlock - 5);
  return view;
}

TEST(KernelsMatmul, GatheredLowBlocksGiveTheSameBits) {
  std::mt19937 random(41);
  constexpr int kColumns = 256, kTokens = kernels::kLowTokens + 37;
  for (const BlockTraits& type : quantized_types()) {
    const Matrix m =
        pack(type.packing, type.type, file_rows(type, kRows, kColumns, -1, random), kColumns);
    Input input(kTokens, kColumns);
    fill_input(input, false, random);
    drop_some_low(input, random);
    std::fill_n(input.low_used.begin() + 3, 1, 1);  // A low block that is used and zero.
    for (const int tokens : {kernels::kGatherTokens, kernels::kLowTokens, kTokens}) {
      const QuantizedInput gathered = gather(input, tokens);
      const auto want = multiply(scalar_table(), type.packing, true, m, kColumns, &input.view,
                                 nullptr, 0, tokens);
      for (const Kernels* table : all_tables()) {
        EXPECT_TRUE(same_bits(
            multiply(*table, type.packing, true, m, kColumns, &gathered, nullptr, 0, tokens), want))
            << table->name << ' ' << type.name << " tokens " << tokens;
      }
    }
  }
}

}  // namespace
}  // namespace lapidary
