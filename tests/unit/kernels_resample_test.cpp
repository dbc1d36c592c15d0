#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "kernels_tables.h"

namespace lapidary {
namespace {

using kernels::Kernels;
using kernels::kResampleBits;
using kernels::kResamplePixels;
using kernels::PixelTaps;
using Bytes = std::vector<std::uint8_t>;

constexpr int kOne = 1 << kResampleBits;

Bytes noise(std::size_t n, std::mt19937& random) {
  Bytes bytes(n);
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random() >> 24);
  return bytes;
}

/// Weights whose sum is near 1, a little under or over it.
std::vector<std::int32_t> weights_of(int count, std::mt19937& random) {
  std::vector<std::int32_t> weights(static_cast<std::size_t>(count));
  for (std::int32_t& weight : weights)
    weight = static_cast<std::int32_t>(random() % (2 * kOne / static_cast<unsigned>(count) + 1));
  weights[random() % weights.size()] = 0;
  return weights;
}

std::uint8_t weighted(std::int64_t sum) {
  return static_cast<std::uint8_t>(std::min<std::int64_t>((sum + kOne / 2) >> kResampleBits, 255));
}

TEST(KernelsResample, RowsAreTheWeightedSumOnEveryIsa) {
  std::mt19937 random(41);
  for (const int n : {1, 3, 15, 16, 17, 48, 63, 64, 65, 79, 80, 129, 2688}) {
    for (const int count : {1, 2, 3, 9, 40}) {
      const auto size = static_cast<std::size_t>(n);
      const std::size_t stride = size + random() % 20;
      // Ends with the last byte that may be read.
      const Bytes rows = noise(stride * static_cast<std::size_t>(count - 1) + size, random);
      const std::vector<std::int32_t> weights = weights_of(count, random);
      Bytes want(size);
      for (std::size_t i = 0; i < size; ++i) {
        std::int64_t sum = 0;
        for (std::size_t j = 0; j < weights.size(); ++j)
          sum += std::int64_t{weights[j]} * rows[j * stride + i];
        want[i] = weighted(sum);
      }
      for (const Kernels* table : all_tables()) {
        Bytes got(size);
        table->resample_rows(rows.data(), stride, weights.data(), count, n, got.data());
        ASSERT_EQ(got, want) << table->name << " n " << n << " count " << count;
      }
    }
  }
}

TEST(KernelsResample, PixelsAreTheWeightedSumOnEveryIsa) {
  std::mt19937 random(43);
  for (const int width : {1, 2, 4, 5, 6, 9, 16, 31, 200}) {
    for (const int longest : {1, 4, 5, 6, 13, 60}) {
      constexpr int kOutputs = 37;
      const auto groups = static_cast<std::size_t>((longest - 1) / kResamplePixels + 1);
      const Bytes row = noise(static_cast<std::size_t>(width) * 3, random);
      std::vector<std::int32_t> lanes(kOutputs * groups * 16, 0);
      std::vector<PixelTaps> taps;
      Bytes want;
      for (int o = 0; o < kOutputs; ++o) {
        const int count =
            1 + static_cast<int>(random() % static_cast<unsigned>(std::min(longest, width)));
        const int first =
            o == 0 ? width - count
                   : static_cast<int>(random() % static_cast<unsigned>(width - count + 1));
        const std::vector<std::int32_t> weights = weights_of(count, random);
        std::int32_t* own = lanes.data() + static_cast<std::size_t>(o) * groups * 16;
        std::int64_t sums[3] = {};
        for (int i = 0; i < count; ++i) {
          for (int c = 0; c < 3; ++c) {
            const std::int32_t weight = weights[static_cast<std::size_t>(i)];
            own[i / kResamplePixels * 16 + i % kResamplePixels * 3 + c] = weight;
            sums[c] += std::int64_t{weight} * row[static_cast<std::size_t>((first + i) * 3 + c)];
          }
        }
        taps.push_back({first, (count - 1) / kResamplePixels + 1, own});
        for (const std::int64_t sum : sums) want.push_back(weighted(sum));
      }
      for (const Kernels* table : all_tables()) {
        Bytes got(want.size());
        table->resample_pixels(row.data(), row.size(), taps.data(), kOutputs, got.data());
        ASSERT_EQ(got, want) << table->name << " width " << width << " longest " << longest;
      }
    }
  }
}

TEST(KernelsResample, SumsOverOneStayWhite) {
  const Bytes white(96, 255);
  const std::int32_t weights[2] = {kOne, kOne / 16};
  std::vector<std::int32_t> lanes(16, kOne / 4);
  lanes[15] = 0;
  const PixelTaps taps{2, 1, lanes.data()};
  for (const Kernels* table : all_tables()) {
    Bytes got(48), pixel(3);
    table->resample_rows(white.data(), 48, weights, 2, 48, got.data());
    EXPECT_EQ(got, Bytes(48, 255)) << table->name;
    table->resample_pixels(white.data(), white.size(), &taps, 1, pixel.data());
    EXPECT_EQ(pixel, Bytes(3, 255)) << table->name;
  }
}

}  // namespace
}  // namespace lapidary
