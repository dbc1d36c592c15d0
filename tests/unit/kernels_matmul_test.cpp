#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/half.h"
#include "kernels/pack.h"
#include "kernels_tables.h"
#include "test_data.h"

namespace lapidary {
namespace {

using kernels::kBlock;
using kernels::Kernels;
using kernels::kPanelRows;
using kernels::Packing;
using kernels::QuantizedInput;

/// The quantised types of files, and F16 and BF16 where `dense`.
std::vector<BlockTraits> types_of_files(bool dense) {
  std::vector<BlockTraits> types;
  for (const BlockTraits& traits : kBlockTraits) {
    if (traits.read != nullptr || (dense && traits.bytes == 2)) types.push_back(traits);
  }
  return types;
}
const std::vector<BlockTraits>& quantized_types() {
  static const std::vector<BlockTraits> types = types_of_files(false);
  return types;
}

std::size_t row_bytes(BlockType type, int columns) {
  const BlockTraits& traits = *find_block_traits(type);
  return static_cast<std::size_t>(columns) / traits.values * traits.bytes;
}

/// Rows as a file holds them. `fill` < 0: random bytes, else every byte but the fp16 scales.
std::vector<std::byte> file_rows(const BlockTraits& type, int rows, int columns, int fill,
                                 std::mt19937& random) {
  std::vector<std::byte> data(row_bytes(type.type, columns) * static_cast<std::size_t>(rows));
  for (std::byte& b : data)
    b = static_cast<std::byte>(fill < 0 ? random() & 255U : static_cast<unsigned>(fill));
  const std::size_t block = type.bytes;
  for (std::size_t at = 0; at < data.size(); at += block) {
    for (const int offset : type.halves) {
      if (offset < 0) continue;
      const auto half = static_cast<std::uint16_t>((random() & 0x83FFU) |
                                                   (random() % 20U << 10));  // Subnormals to 15.99.
      std::memcpy(&data[at + static_cast<std::size_t>(offset)], &half, 2);
    }
  }
  return data;
}

constexpr int kRows = 20;  // A whole panel and a part of one.

struct Matrix {
  std::vector<std::byte> panels;
  std::size_t panel_bytes = 0;
};

Matrix pack(Packing packing, BlockType type, const std::vector<std::byte>& rows, int columns) {
  Matrix m;
  m.panel_bytes = kernels::panel_bytes(packing, columns);
  m.panels.resize(2 * m.panel_bytes);
  const std::size_t stride = row_bytes(type, columns);
  EXPECT_TRUE(kernels::pack_panel(packing, type, rows.data(), stride, kPanelRows, columns,
                                  m.panels.data()));
  EXPECT_TRUE(kernels::pack_panel(packing, type, rows.data() + kPanelRows * stride, stride,
                                  kRows - kPanelRows, columns, m.panels.data() + m.panel_bytes));
  return m;
}

/// Owns a QuantizedInput.
struct Input {
  Input(int tokens, int columns)
      : values(static_cast<std::size_t>(tokens * columns)),
        low(values.size()),
        scales(values.size() / kBlock),
        sums(kernels::kBlockSums * scales.size()),
        low_sums(sums.size()),
        low_used(scales.size()),
        scaled_sums(scales.size()),
        low_scaled_sums(scales.size()),
        view{.values = values.data(),
             .low = low.data(),
             .scales = scales.data(),
             .sums = sums.data(),
             .low_sums = low_sums.data(),
             .low_used = nullptr,
             .scaled_sums = scaled_sums.data(),
             .low_scaled_sums = low_scaled_sums.data(),
             .columns = columns} {}

  /// Fills in what follows from `values`, `low` and `scales`.
  void finish() {
    for (std::size_t b = 0; b < scales.size(); ++b) {
      scaled_sums[b] = scales[b] * static_cast<float>(sum_block(values, b, sums));
      low_scaled_sums[b] = scales[b] * static_cast<float>(sum_block(low, b, low_sums));
    }
  }

  /// Drops all low parts but about one in three, and tells `low_used` which are left.
  void drop_low_parts(std::mt19937& random) {
    for (std::size_t b = 0; b < scales.size(); ++b) {
      low_used[b] = random() % 3U == 0 ? 1 : 0;
      if (low_used[b] == 0) std::fill_n(&low[b * kBlock], kBlock, std::int8_t{0});
    }
    finish();
  }

  static int sum_block(const std::vector<std::int8_t>& x, std::size_t block,
                       std::vector<std::int16_t>& sums) {
    int of[kernels::kBlockSums] = {};
    for (std::size_t i = 0; i < kBlock; ++i) {
      of[i / 2 % 2] += x[block * kBlock + i];
      if (i < kBlock / 2) of[2 + i / 2 % 2] += x[block * kBlock + i];
    }
    for (std::size_t j = 0; j < kernels::kBlockSums; ++j)
      sums[block * kernels::kBlockSums + j] = static_cast<std::int16_t>(of[j]);
    return of[0] + of[1];
  }

  std::vector<std::int8_t> values, low;
  std::vector<float> scales;
  std::vector<std::int16_t> sums, low_sums;
  std::vector<std::uint8_t> low_used;  // `view` does not point at it.
  std::vector<float> scaled_sums, low_scaled_sums;
  QuantizedInput view;
};

/// `extreme`: every value is +127 or -127, by runs, so that sums reach their bounds.
void fill_input(Input& input, bool extreme, std::mt19937& random) {
  for (std::size_t i = 0; i < input.values.size(); ++i) {
    const int sign = i / kBlock % 3 == 0   ? 1
                     : i / kBlock % 3 == 1 ? -1
                     : random() % 2 == 0   ? 1
                                           : -1;
    input.values[i] =
        static_cast<std::int8_t>(extreme ? 127 * sign : static_cast<int>(random() % 255U) - 127);
    input.low[i] =
        static_cast<std::int8_t>(extreme ? -127 * sign : static_cast<int>(random() % 255U) - 127);
  }
  for (float& s : input.scales)
    s = std::ldexp(1.0F + static_cast<float>(random() % 1000U) / 1000.0F, -8);
  input.finish();
}

std::vector<float> multiply(const Kernels& table, Packing packing, bool wide, const Matrix& m,
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
  (wide ? table.matmul16 : table.matmul)[static_cast<int>(packing)](args);
  return out;
}

/// The contract of kernels.h, with sums in 64 bits.
float expected(Packing packing, bool wide, const Matrix& m, int columns, const Input& input,
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
    high_product = std::fma(w.offset, input.scaled_sums[block], high_product);
    low_product = std::fma(static_cast<float>(low), scale, low_product);
    low_product = std::fma(w.offset, input.low_scaled_sums[block], low_product);
  }
  return wide ? std::fma(low_product, 1.0F / 254, high_product) : high_product;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void check_matrix(const BlockTraits& type, const Matrix& m, int columns, bool extreme,
                  std::mt19937& random) {
  constexpr int kTokens[] = {1, 2, 3, 4, 5, 7, 8, 9, 13, 19};
  for (const bool wide : {false, true}) {
    Input input(21, columns);
    fill_input(input, extreme, random);
    for (const int tokens : kTokens) {
      const auto reference =
          multiply(scalar_table(), type.packing, wide, m, columns, &input.view, nullptr, 2, tokens);
      for (const int row : {0, 5, 15, 19}) {
        const std::size_t last =
            static_cast<std::size_t>(tokens - 1) * 35 + static_cast<std::size_t>(row);
        ASSERT_EQ(reference[last], expected(type.packing, wide, m, columns, input, row, tokens + 1))
            << type.name;
      }
      for (const Kernels* table : all_tables()) {
        const auto got =
            multiply(*table, type.packing, wide, m, columns, &input.view, nullptr, 2, tokens);
        ASSERT_TRUE(same_bits(got, reference))
            << table->name << ' ' << type.name << " columns " << columns << " tokens " << tokens
            << (wide ? " 16 bits" : " 8 bits") << (extreme ? " extreme" : " random");
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

std::vector<char> read_golden(const std::string& file) {
  std::ifstream in(test_data("dequant/" + file), std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

TEST(KernelsPack, UnpackedRowsAreTheGoldenValues) {
  constexpr int kGoldenRows = 8, kColumns = 512;
  for (const BlockTraits& type : types_of_files(true)) {
    const std::vector<char> bytes = read_golden(std::string(type.name) + ".bytes"),
                            floats = read_golden(std::string(type.name) + ".f32");
    ASSERT_EQ(bytes.size(), row_bytes(type.type, kColumns) * kGoldenRows) << type.name;
    ASSERT_EQ(floats.size(), sizeof(float) * kColumns * kGoldenRows);
    std::vector<std::byte> panel(kernels::panel_bytes(type.packing, kColumns));
    ASSERT_TRUE(kernels::pack_panel(
        type.packing, type.type, reinterpret_cast<const std::byte*>(bytes.data()),
        row_bytes(type.type, kColumns), kGoldenRows, kColumns, panel.data()));
    std::vector<float> row(kColumns), want(kColumns);
    for (int r = 0; r < kGoldenRows; ++r) {
      kernels::unpack_row(type.packing, panel.data(), r, kColumns, row.data());
      std::memcpy(want.data(),
                  floats.data() + sizeof(float) * kColumns * static_cast<std::size_t>(r),
                  sizeof(float) * kColumns);
      EXPECT_EQ(row, want) << type.name << " row " << r;
    }
  }
}

TEST(KernelsPack, ScalesThatAreNotFiniteAreRefused) {
  std::mt19937 random(19);
  for (const BlockTraits& type : quantized_types()) {
    for (const int offset : type.halves) {
      if (offset < 0) continue;
      for (const std::uint16_t bad :
           {std::uint16_t{0x7C00}, std::uint16_t{0xFC00}, std::uint16_t{0x7E00}}) {
        std::vector<std::byte> rows = file_rows(type, 1, 256, -1, random);
        std::memcpy(&rows[static_cast<std::size_t>(offset)], &bad, 2);
        std::vector<std::byte> panel(kernels::panel_bytes(type.packing, 256));
        EXPECT_FALSE(kernels::pack_panel(type.packing, type.type, rows.data(), rows.size(), 1, 256,
                                         panel.data()))
            << type.name;
      }
    }
  }
}

TEST(KernelsPack, OtherTypesThanThePackingsOwnAreRefused) {
  const std::vector<std::byte> rows(256 * 4, std::byte{0});
  const auto packs = [&](Packing packing, BlockType type) {
    std::vector<std::byte> panel(kernels::panel_bytes(Packing::kQ8_0, 256) * 2);
    return kernels::pack_panel(packing, type, rows.data(), rows.size(), 1, 256, panel.data());
  };
  const auto unknown = static_cast<BlockType>(99);
  EXPECT_EQ(kernels::packing_for(unknown, true), Packing::kCount);
  for (int p = 0; p <= static_cast<int>(Packing::kCount); ++p) {
    const auto packing = static_cast<Packing>(p);
    EXPECT_FALSE(packs(packing, unknown)) << p;
    for (const BlockTraits& traits : kBlockTraits) {
      const bool own = packing == kernels::packing_for(traits.type, true) ||
                       packing == kernels::packing_for(traits.type, false);
      EXPECT_EQ(packs(packing, traits.type), own) << p << ' ' << traits.name;
    }
  }
}

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

TEST(KernelsMatmul, LowPartsThatAreSkippedChangeNothing) {
  std::mt19937 random(37);
  constexpr int kColumns = 512, kTokens = 13;
  for (const BlockTraits& type : quantized_types()) {
    const Matrix m =
        pack(type.packing, type.type, file_rows(type, kRows, kColumns, -1, random), kColumns);
    Input input(kTokens, kColumns);
    fill_input(input, false, random);
    input.drop_low_parts(random);
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

/// Room for the low parts of all blocks, which gather_low_blocks fills.
struct Gathered {
  Gathered(const QuantizedInput& input, int tokens) : view(input) {
    const int groups = (tokens + kernels::kLowGroup - 1) / kernels::kLowGroup;
    const auto buckets = static_cast<std::size_t>(groups * (input.columns / kBlock));
    counts.resize(buckets, 77);  // What an earlier product left there.
    blocks.resize(buckets * kernels::kLowGroup);
    view.low_blocks = blocks.data();
    view.low_counts = counts.data();
    view.low_gathered = true;
    kernels::gather_low_blocks(view, tokens, 0, 5);
    kernels::gather_low_blocks(view, tokens, 5, input.columns / kBlock - 5);
  }
  std::vector<kernels::LowBlock> blocks;
  std::vector<std::uint8_t> counts;
  QuantizedInput view;
};

TEST(KernelsMatmul, GatheredLowPartsGiveTheSameBits) {
  std::mt19937 random(41);
  constexpr int kColumns = 256, kTokens = kernels::kLowGroup + 37;
  for (const BlockTraits& type : quantized_types()) {
    const Matrix m =
        pack(type.packing, type.type, file_rows(type, kRows, kColumns, -1, random), kColumns);
    Input input(kTokens, kColumns);
    fill_input(input, false, random);
    input.drop_low_parts(random);
    input.view.low_used = input.low_used.data();
    std::fill_n(input.low_used.begin() + 3, 1, 1);  // A low part that is used and zero.
    for (const int tokens : {kernels::kGatherTokens, kernels::kLowGroup, kTokens}) {
      const Gathered gathered(input.view, tokens);
      const auto want = multiply(scalar_table(), type.packing, true, m, kColumns, &input.view,
                                 nullptr, 0, tokens);
      for (const Kernels* table : all_tables()) {
        EXPECT_TRUE(same_bits(
            multiply(*table, type.packing, true, m, kColumns, &gathered.view, nullptr, 0, tokens),
            want))
            << table->name << ' ' << type.name << " tokens " << tokens;
      }
    }
  }
}

}  // namespace
}  // namespace lapidary
