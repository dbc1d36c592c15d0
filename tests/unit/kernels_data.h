#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "block_scales.h"
#include "kernels/pack.h"
#include "owned_input.h"

/// For the tests of the quantised kernels: matrices as files have them, packed, and activations;
/// numbers and their bits.
namespace lapidary {

using kernels::kBlock;
using kernels::Kernels;
using kernels::kPanelRows;
using kernels::Packing;
using kernels::QuantizedInput;

/// The quantised types of files, and F16 and BF16 where `dense`.
inline std::vector<BlockTraits> types_of_files(bool dense) {
  std::vector<BlockTraits> types;
  for (const BlockTraits& traits : kBlockTraits) {
    if (traits.read != nullptr || (dense && traits.bytes == 2)) types.push_back(traits);
  }
  return types;
}
inline const std::vector<BlockTraits>& quantized_types() {
  static const std::vector<BlockTraits> types = types_of_files(false);
  return types;
}

inline std::size_t row_bytes(BlockType type, int columns) {
  const BlockTraits& traits = *find_block_traits(type);
  return static_cast<std::size_t>(columns) / traits.values * traits.bytes;
}

/// Rows as a file holds them. `fill` < 0: random bytes, else every byte but the fp16 scales.
inline std::vector<std::byte> file_rows(const BlockTraits& type, int rows, int columns, int fill,
                                        std::mt19937& random) {
  std::vector<std::byte> data(row_bytes(type.type, columns) * static_cast<std::size_t>(rows));
  for (std::byte& b : data)
    b = static_cast<std::byte>(fill < 0 ? random() & 255U : static_cast<unsigned>(fill));
  for (std::size_t at = 0; at < data.size(); at += type.bytes) {
    set_scales(type, &data[at], [&] {  // Subnormals to 15.99.
      return static_cast<std::uint16_t>((random() & 0x83FFU) | (random() % 20U << 10));
    });
  }
  return data;
}

inline constexpr int kRows = 20;  // A whole panel and a part of one.

struct Matrix {
  std::vector<std::byte> panels;
  std::size_t panel_bytes = 0;
};

inline Matrix pack(Packing packing, BlockType type, const std::vector<std::byte>& rows,
                   int columns) {
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

using Input = OwnedInput;

/// Drops all low blocks but about one in three, and tells `low_used` which are left.
inline void drop_some_low(Input& input, std::mt19937& random) {
  for (std::size_t b = 0; b < input.scales.size(); ++b) {
    input.low_used[b] = random() % 3U == 0 ? 1 : 0;
    if (input.low_used[b] == 0) std::fill_n(&input.low[b * kBlock], kBlock, std::int8_t{0});
  }
  input.finish();
}

/// `extreme`: every value is +127 or -127, by runs, so that sums reach their bounds.
inline void fill_input(Input& input, bool extreme, std::mt19937& random) {
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

inline std::vector<float> normals(std::size_t n, float scale, std::mt19937& random) {
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace lapidary
