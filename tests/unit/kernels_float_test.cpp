#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/half.h"
#include "kernels_data.h"
#include "kernels_tables.h"

namespace lapidary {
namespace {

using kernels::Kernels;

constexpr double kEps = 0x1p-24;  // Half a unit in the last place of fp32, relative.

TEST(KernelsDispatch, TablesAreFoundByTheirNames) {
  const kernels::Tables found = kernels::available();
  const std::vector<const Kernels*> tables(found.begin(), found.end());
  ASSERT_GE(tables.size(), 1U);
  EXPECT_STREQ(tables.back()->name, "scalar");
  EXPECT_EQ(kernels::best(), tables.front());
  for (std::size_t i = 0; i < tables.size(); ++i) {
    EXPECT_EQ(kernels::find(tables[i]->name), tables[i]);
    for (std::size_t j = 0; j < i; ++j) EXPECT_STRNE(tables[i]->name, tables[j]->name);
  }
  EXPECT_EQ(kernels::find("sse9"), nullptr);
  EXPECT_EQ(kernels::find(""), nullptr);
}

TEST(KernelsDispatch, TargetsAreNamesOfKnownFeatures) {
  const auto none = [](const kernels::Feature&) { return false; };
  EXPECT_TRUE(kernels::each_feature("", none));
  EXPECT_FALSE(kernels::is_known_target("mmx9"));
#if defined(__x86_64__)
  EXPECT_TRUE(kernels::is_known_target("avx2,avxvnni"));
  for (const char* target : {"avx", "avx22", "avx2,mmx9", "mmx9,avx2", ",avx2"})
    EXPECT_FALSE(kernels::is_known_target(target)) << target;
  // Each part of a target is asked for.
  const auto no_fma = [](const kernels::Feature& f) { return std::string(f.name) != "fma"; };
  EXPECT_FALSE(kernels::each_feature(kernels::kAvx2.target, no_fma));
#endif
}

#if defined(__x86_64__)
TEST(KernelsDispatch, WithoutWideRegistersSse41IsLeft) {
  const auto narrow = [](const kernels::Feature& f) { return f.saved == kernels::kXmm; };
  for (const auto* set : {&kernels::kAvx512, &kernels::kAvxVnni, &kernels::kAvx2})
    EXPECT_FALSE(kernels::each_feature(set->target, narrow)) << set->table.name;
  EXPECT_TRUE(kernels::each_feature(kernels::kSse41.target, narrow));
  EXPECT_TRUE(kernels::each_feature(kernels::kScalar.target, narrow));
}
#endif

TEST(KernelsDispatch, EveryEntryOfEveryTableIsFilled) {
  for (const Kernels* table : all_tables()) {
    for (const auto* list : {&table->matmul, &table->matmul16}) {
      for (const auto function : *list) EXPECT_NE(function, nullptr) << table->name;
    }
    for (const auto function : table->matmul_planes) EXPECT_NE(function, nullptr) << table->name;
    EXPECT_GT(table->int8_peak(3), 0U);
    EXPECT_EQ(table->int8_peak(6), 2 * table->int8_peak(3));
  }
}

TEST(KernelsFloat, RmsNorm) {
  std::mt19937 random(3);
  for (const int n : {16, 256, 640, 1152, 5376}) {
    const auto size = static_cast<std::size_t>(n);
    const std::vector<float> x = normals(size, 30.0F, random), weight = normals(size, 2.0F, random),
                             residual = normals(size, 5.0F, random);
    double squares = 0.0;
    for (const float v : x) squares += double{v} * v;
    const double scale = 1.0 / std::sqrt(squares / n + 1e-6);
    // n / 16 + 4 additions, halved by the root; then mean, epsilon, root, division, two products
    // and the rounded epsilon.
    const double tolerance = (n / 32.0 + 10) * kEps;
    std::vector<float> want(size), want_added = residual;
    scalar_table().rmsnorm(x.data(), weight.data(), n, 1e-6F, want.data());
    scalar_table().rmsnorm_add(x.data(), weight.data(), n, 1e-6F, want_added.data());
    for (std::size_t i = 0; i < size; ++i) {
      const double normed = x[i] * scale * weight[i];
      EXPECT_NEAR(want[i], normed, tolerance * std::fabs(normed));
      EXPECT_EQ(want_added[i], residual[i] + want[i]);
    }
    for (const Kernels* table : all_tables()) {
      std::vector<float> out(size), in_place = x, added = residual;
      table->rmsnorm(x.data(), weight.data(), n, 1e-6F, out.data());
      table->rmsnorm(x.data(), weight.data(), n, 1e-6F, in_place.data());
      table->rmsnorm_add(x.data(), weight.data(), n, 1e-6F, added.data());
      EXPECT_TRUE(same_bits(out, want)) << table->name << ' ' << n;
      EXPECT_TRUE(same_bits(in_place, want)) << table->name << ' ' << n;
      EXPECT_TRUE(same_bits(added, want_added)) << table->name << ' ' << n;
    }
  }
}

TEST(KernelsFloat, RopeRotatesTheHalves) {
  std::mt19937 random(5);
  for (const int n : {32, 128, 256}) {
    const auto half = static_cast<std::size_t>(n / 2);
    const std::vector<float> x = normals(2 * half, 3.0F, random);
    std::vector<float> c(half), s(half);
    for (std::size_t j = 0; j < half; ++j) {
      c[j] = std::cos(static_cast<float>(j) * 0.7F);
      s[j] = std::sin(static_cast<float>(j) * 0.7F);
    }
    std::vector<float> want = x;
    scalar_table().rope(want.data(), c.data(), s.data(), n);
    for (std::size_t j = 0; j < half; ++j) {
      const double a = x[j], b = x[j + half];
      const double tolerance = 2 * kEps * (std::fabs(a) + std::fabs(b));  // Two products and a sum.
      EXPECT_NEAR(want[j], a * c[j] - b * s[j], tolerance);
      EXPECT_NEAR(want[j + half], b * c[j] + a * s[j], tolerance);
    }
    for (const Kernels* table : all_tables()) {
      std::vector<float> got = x;
      table->rope(got.data(), c.data(), s.data(), n);
      EXPECT_TRUE(same_bits(got, want)) << table->name << ' ' << n;
    }
  }
}

TEST(KernelsFloat, GeluOverItsWholeRange) {
  std::vector<float> gate;
  for (int i = -3200; i < 3200; ++i) gate.push_back(static_cast<float>(i) * 0.0117F);
  for (const float v : {0.0F, -0.0F, 1e-30F, -1e-30F, 1e4F, -1e4F, 3e10F, -3e10F})
    gate.insert(gate.end(), 4, v);
  const int n = static_cast<int>(gate.size());
  ASSERT_EQ(n % 16, 0);
  std::mt19937 random(9);
  const std::vector<float> up = normals(gate.size(), 2.0F, random);
  std::vector<float> want = gate;
  scalar_table().gelu_mul(want.data(), up.data(), n);
  for (std::size_t i = 0; i < gate.size(); ++i) {
    const double x = gate[i];
    const double u2 = 2 * std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x);
    const double exact = x / (1 + std::exp(-u2)) * up[i];
    // The exponent is rounded about four times, exp adds 2e-7, division and product one each; exp
    // is clamped at 88.
    const double relative = std::min(1.0, 4e-7 + 4 * kEps * std::fabs(u2));
    EXPECT_NEAR(want[i], exact, std::fabs(exact) * relative + 1e-36 * std::fabs(x * up[i]))
        << gate[i];
  }
  for (const Kernels* table : all_tables()) {
    std::vector<float> got = gate;
    table->gelu_mul(got.data(), up.data(), n);
    EXPECT_TRUE(same_bits(got, want)) << table->name;
  }
}

}  // namespace
}  // namespace lapidary
