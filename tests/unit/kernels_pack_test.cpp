#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "kernels/pack.h"
#include "kernels_data.h"
#include "test_data.h"

namespace lapidary {
namespace {

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

// Who brings a file of few bits has little memory.
TEST(KernelsPack, PanelsTakeLittleMoreThanTheFile) {
  constexpr int kColumns = 2560;
  for (const BlockTraits& type : quantized_types()) {
    const auto file = static_cast<double>(row_bytes(type.type, kColumns)) * kPanelRows;
    const auto packed = static_cast<double>(kernels::panel_bytes(type.packing, kColumns));
    const double bits = 8.0 * type.bytes / type.values;
    EXPECT_LE(packed / file, bits >= 3 ? 1.25 : 1.6) << type.name;
  }
}

TEST(KernelsPack, ScalesThatAreNotFiniteAreRefused) {
  std::mt19937 random(19);
  const auto packs = [](const BlockTraits& type, const std::vector<std::byte>& rows) {
    std::vector<std::byte> panel(kernels::panel_bytes(type.packing, 256));
    return kernels::pack_panel(type.packing, type.type, rows.data(), rows.size(), 1, 256,
                               panel.data());
  };
  for (const BlockTraits& type : quantized_types()) {
    for (int which = 0; which < std::max(1, type.scheme.scales.halves); ++which) {
      for (const std::uint16_t bad :
           {std::uint16_t{0x7C00}, std::uint16_t{0xFC00}, std::uint16_t{0x7E00}}) {
        std::vector<std::byte> rows = file_rows(type, 1, 256, -1, random);
        EXPECT_TRUE(packs(type, rows)) << type.name;
        int number = 0;
        set_scales(type, rows.data(), [&] { return number++ == which ? bad : std::uint16_t{1}; });
        if (type.type == BlockType::kMXFP4) continue;
        EXPECT_FALSE(packs(type, rows)) << type.name;
      }
    }
  }
  const BlockTraits& exponents = *find_block_traits(BlockType::kMXFP4);
  for (const unsigned exponent : {0U, 1U, 252U, 253U, 255U}) {
    std::vector<std::byte> rows = file_rows(exponents, 1, 256, -1, random);
    rows[17] = static_cast<std::byte>(exponent);
    EXPECT_EQ(packs(exponents, rows), exponent < 253) << exponent;
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

}  // namespace
}  // namespace lapidary
