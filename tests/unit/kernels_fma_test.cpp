#include <gtest/gtest.h>

#if defined(__x86_64__)
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/fma-sse2-inl.h"

namespace lapidary {
namespace {

/// SplitMix64.
std::uint64_t next(std::uint64_t& state) {
  std::uint64_t z = state += 0x9E3779B97F4A7C15U;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9U;
  z = (z ^ z >> 27) * 0x94D049BB133111EBU;
  return z ^ z >> 31;
}

struct Operands {
  alignas(16) float x[4], y[4], z[4];
};

/// The first of four operands whose result is not std::fma's; 4 where all are. A NaN is as good as
/// another.
int first_wrong(const Operands& in) {
  const __m128 x = _mm_load_ps(in.x), y = _mm_load_ps(in.y), z = _mm_load_ps(in.z);
  __m128i doubtful;
  alignas(16) float got[4], twice[4];
  _mm_store_ps(got, multiply_add(x, y, z));
  _mm_store_ps(twice, multiply_add_twice(x, y, z, doubtful));
  const int doubts = _mm_movemask_ps(_mm_castsi128_ps(doubtful));
  for (int i = 0; i < 4; ++i) {
    const float want = std::fma(in.x[i], in.y[i], in.z[i]);
    const bool same = std::bit_cast<std::uint32_t>(got[i]) == std::bit_cast<std::uint32_t>(want);
    if (!same && !(std::isnan(got[i]) && std::isnan(want))) return i;
    if ((doubts >> i & 1) != 0) continue;
    if (twice[i] != got[i] && !std::isnan(want)) return i;
  }
  return 4;
}

/// Calls fill(state, x, y, z) for `count` triples of operands, and compares.
template <class Fill>
void expect_all_right(std::uint64_t seed, int count, Fill fill) {
  std::uint64_t state = seed;
  Operands in{};
  for (int n = 0; n < count; n += 4) {
    for (int i = 0; i < 4; ++i) fill(state, in.x[i], in.y[i], in.z[i]);
    const int wrong = first_wrong(in);
    ASSERT_EQ(wrong, 4) << std::hexfloat << in.x[wrong] << " * " << in.y[wrong] << " + "
                        << in.z[wrong];
  }
}

float from_bits(std::uint64_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits));
}

/// Sign and mantissa of random bits; the exponent is about `exponent`, a float's biased one, within
/// ±2^bits / 2.
float near(std::uint64_t random, int exponent, int bits) {
  const auto off = static_cast<int>(random >> 40 & ((1U << bits) - 1)) - (1 << bits) / 2;
  const auto e = static_cast<std::uint32_t>(std::clamp(exponent + off, 0, 254));
  return std::bit_cast<float>((static_cast<std::uint32_t>(random) & 0x807FFFFFU) | e << 23);
}

/// A mantissa of which few bits are set, or all but few: where sums are halfway between floats.
float sparse(std::uint64_t random, int exponent, int bits) {
  const auto ones = 1U << (random >> 32 & 31) | 1U << (random >> 52 & 31);
  const std::uint32_t mantissa = (random >> 63 != 0 ? ones : ~ones) & 0x7FFFFFU;
  return std::bit_cast<float>(
      (std::bit_cast<std::uint32_t>(near(random, exponent, bits)) & 0xFF800000U) | mantissa);
}

constexpr int kCount = 1 << 25;

TEST(KernelsFma, AnyBits) {
  expect_all_right(1, kCount / 2, [](std::uint64_t& state, float& x, float& y, float& z) {
    const std::uint64_t a = next(state);
    x = from_bits(a), y = from_bits(a >> 32), z = from_bits(next(state));
  });
}

TEST(KernelsFma, ProductsAndSumsOfLikeSize) {
  expect_all_right(2, kCount, [](std::uint64_t& state, float& x, float& y, float& z) {
    x = near(next(state), 127, 2), y = near(next(state), 127, 2), z = near(next(state), 127, 6);
  });
}

TEST(KernelsFma, HalfwayBetweenFloats) {
  expect_all_right(3, kCount, [](std::uint64_t& state, float& x, float& y, float& z) {
    x = sparse(next(state), 127, 3), y = sparse(next(state), 127, 3);
    z = sparse(next(state), 127, 6);
  });
  // Just beside: z's last bits are a product's first ones, and what is beyond them decides.
  expect_all_right(4, kCount, [](std::uint64_t& state, float& x, float& y, float& z) {
    x = sparse(next(state), 127, 1), y = sparse(next(state), 127 - 24, 2);
    z = near(next(state), 127, 1);
  });
  expect_all_right(5, kCount / 2, [](std::uint64_t& state, float& x, float& y, float& z) {
    x = sparse(next(state), 127, 1), y = near(next(state), 127 + 25, 2);
    z = sparse(next(state), 127, 7);
  });
}

TEST(KernelsFma, SubnormalAndOverflowingResults) {
  expect_all_right(6, kCount / 2, [](std::uint64_t& state, float& x, float& y, float& z) {
    x = sparse(next(state), 64, 3), y = near(next(state), 64, 3), z = near(next(state), 8, 5);
  });
  expect_all_right(7, kCount / 2, [](std::uint64_t& state, float& x, float& y, float& z) {
    x = sparse(next(state), 60, 4), y = sparse(next(state), 52, 4), z = sparse(next(state), 0, 4);
  });
  expect_all_right(8, kCount / 4, [](std::uint64_t& state, float& x, float& y, float& z) {
    x = near(next(state), 190, 2), y = near(next(state), 190, 3), z = near(next(state), 252, 3);
  });
}

/// Subnormal numbers are zeros in this thread, as in the threads of the library.
class FlushedToZero {
 public:
  FlushedToZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | kFlags); }
  ~FlushedToZero() { _mm_setcsr(before_); }
  FlushedToZero(const FlushedToZero&) = delete;
  FlushedToZero& operator=(const FlushedToZero&) = delete;

 private:
  static constexpr unsigned kFlags = 0x8040;  // FTZ and DAZ.
  unsigned before_;
};

TEST(KernelsFma, SubnormalResultsAreFlushedWhereTheProcessorsAre) {
  if (kernels::find("avx2") == nullptr) GTEST_SKIP() << "std::fma is no instruction here";
  const FlushedToZero flushed;
  expect_all_right(9, kCount / 4, [](std::uint64_t& state, float& x, float& y, float& z) {
    x = near(next(state), 64, 3), y = near(next(state), 64, 3), z = near(next(state), 8, 5);
  });
}

TEST(KernelsFma, EveryTripleOfExtremes) {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> extremes = {
      0.0F,     0x1p-149F,       0x1.8p-148F, 0x1.fffffcp-127F, 0x1p-126F,    0x1.000002p-126F,
      0x1p-75F, 0x1.fffffep-75F, 0x1p-24F,    0x1.000002p-24F,  0x1p-1F,      0x1.fffffep-1F,
      1.0F,     0x1.000002p0F,   1.5F,        0x1p23F,          0x1p24F,      0x1.fffffep63F,
      0x1p64F,  0x1p127F,        infinity,    0x1.fffffep127F,  std::nanf("")};
  for (std::size_t i = extremes.size(); i-- > 0;) extremes.push_back(-extremes[i]);
  const std::size_t n = extremes.size();
  for (std::size_t i = 0; i < n * n * n; ++i) {
    const float x = extremes[i % n], y = extremes[i / n % n], z = extremes[i / n / n];
    const Operands in = {{x, x, x, x}, {y, y, y, y}, {z, z, z, z}};
    ASSERT_EQ(first_wrong(in), 4) << std::hexfloat << x << " * " << y << " + " << z;
  }
}

}  // namespace
}  // namespace lapidary
#endif
