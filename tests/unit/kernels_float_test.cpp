#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/half.h"
#include "kernels_tables.h"

namespace lapidary {
namespace {

using kernels::AttentionArgs;
using kernels::AttentionPart;
using kernels::Kernels;
using kernels::kKeyPanel;
using kernels::kSegment;
using kernels::KvFormat;

constexpr double kEps = 0x1p-24;  // Half a unit in the last place of fp32, relative.

std::vector<float> normals(std::size_t n, float scale, std::mt19937& random) {
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

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

/// Keys and values of `length` positions in pages that lie in no order, and some query rows that
/// see windows of them.
struct Scene {
  Scene(int dim, std::int64_t positions, int ring, int row_count, std::int64_t window,
        std::mt19937& random)
      : head_dim(dim),
        length(positions),
        rows(row_count),
        pool(static_cast<std::size_t>(ring) * kernels::kv_head_bytes(KvFormat::kBf16, dim),
             std::byte{0x46}),  // What was never written: large, finite.
        queries(normals(static_cast<std::size_t>(row_count * dim),
                        1.5F / std::sqrt(static_cast<float>(dim)), random)),
        keys(normals(static_cast<std::size_t>(positions * dim), 2.0F, random)),
        values(normals(keys.size(), 3.0F, random)) {
    for (std::int64_t page = 0; page * kernels::kPagePositions < length; ++page)
      pages.push_back(static_cast<std::int32_t>(ring - 1 - page % ring));
    for (std::int64_t p = 0; p < length; ++p) write(p);
    for (int r = 0; r < rows; ++r) {  // Two heads a token: rows share what they see in pairs.
      row_last.push_back(length - 1 - (rows - 1) / 2 + r / 2);
      row_first.push_back(std::max<std::int64_t>(0, row_last.back() - window + 1));
    }
  }

  void write(std::int64_t p) {
    const auto first = static_cast<std::size_t>(p * head_dim),
               dim = static_cast<std::size_t>(head_dim);
    scalar_table().store_kv(KvFormat::kBf16, keys.data() + first, values.data() + first, head_dim,
                            pool.data() + page_of(p),
                            static_cast<int>(p % kernels::kPagePositions));
    for (std::size_t i = first; i < first + dim; ++i) {
      keys[i] = kernels::bf16_to_float(kernels::float_to_bf16(keys[i]));
      values[i] = kernels::bf16_to_float(kernels::float_to_bf16(values[i]));
    }
  }
  std::size_t page_of(std::int64_t p) const {
    return static_cast<std::size_t>(pages[static_cast<std::size_t>(p / kernels::kPagePositions)]) *
           kernels::kv_head_bytes(KvFormat::kBf16, head_dim);
  }

  /// Attention of rows [begin, end), segment after segment.
  std::vector<float> attend(const Kernels& table, int begin, int end) const {
    const auto count = static_cast<std::size_t>(end - begin);
    const std::size_t size = count * static_cast<std::size_t>(head_dim);
    std::vector<float> scores(count * kSegment, 123.0F), output(size), sum(count),
        part_output(size, 123.0F), part_sum(count), part_maximum(count);
    std::vector<float> maximum(count, -std::numeric_limits<float>::infinity());
    const AttentionPart so_far{output.data(), maximum.data(), sum.data()};
    AttentionArgs args{};
    args.queries = queries.data() + begin * head_dim;
    args.rows = end - begin;
    args.head_dim = head_dim;
    args.format = KvFormat::kBf16;
    const std::int64_t seen = row_first[static_cast<std::size_t>(begin)] / kernels::kPagePositions;
    args.cache = {pool.data(), kernels::kv_head_bytes(KvFormat::kBf16, head_dim),
                  pages.data() + seen, seen};
    args.row_first = row_first.data() + begin;
    args.row_last = row_last.data() + begin;
    args.scores = scores.data();
    args.part = {part_output.data(), part_maximum.data(), part_sum.data()};
    const std::int64_t first = *std::min_element(args.row_first, args.row_first + count);
    const std::int64_t last = *std::max_element(args.row_last, args.row_last + count);
    for (std::int64_t segment = first / kSegment; segment <= last / kSegment; ++segment) {
      args.first_key = std::max<std::int64_t>(first, segment * kSegment);
      args.last_key = std::min<std::int64_t>(last, segment * kSegment + kSegment - 1);
      table.attention(args);
      table.attention_merge(args.part, args.rows, head_dim, so_far);
    }
    table.attention_finish(so_far, args.rows, head_dim);
    return output;
  }

  void expect_near_exact(const std::vector<float>& got) const;

  int head_dim;
  std::int64_t length;
  int rows;
  std::vector<std::byte> pool;
  std::vector<std::int32_t> pages;
  std::vector<float> queries, keys, values;
  std::vector<std::int64_t> row_first, row_last;
};

void Scene::expect_near_exact(const std::vector<float>& got) const {
  for (int r = 0; r < rows; ++r) {
    const std::int64_t first = row_first[static_cast<std::size_t>(r)],
                       last = row_last[static_cast<std::size_t>(r)];
    std::vector<double> score;
    double magnitude = 0.0, top = -1e300, sum = 0.0;
    for (std::int64_t p = first; p <= last; ++p) {
      double dot = 0.0, absolute = 0.0;
      for (int d = 0; d < head_dim; ++d) {
        const double term = double{queries[static_cast<std::size_t>(r * head_dim + d)]} *
                            keys[static_cast<std::size_t>(p * head_dim + d)];
        dot += term;
        absolute += std::fabs(term);
      }
      score.push_back(dot);
      magnitude = std::max(magnitude, absolute);
      top = std::max(top, dot);
    }
    for (double& s : score) sum += s = std::exp(s - top);
    // A score is off by head_dim roundings of its terms' magnitude, so is the maximum; exp adds
    // 2e-7, each sum one rounding a key.
    const double keys_seen = static_cast<double>(score.size());
    const double relative = 2 * (2 * head_dim * kEps * magnitude + 2e-7 + (keys_seen + 8) * kEps);
    for (int d = 0; d < head_dim; ++d) {
      double want = 0.0, weight = 0.0;
      for (std::size_t i = 0; i < score.size(); ++i) {
        const double v =
            values[static_cast<std::size_t>((first + static_cast<std::int64_t>(i)) * head_dim + d)];
        want += score[i] / sum * v;
        weight += score[i] / sum * std::fabs(v);
      }
      ASSERT_NEAR(got[static_cast<std::size_t>(r * head_dim + d)], want, relative * weight)
          << "row " << r << " dim " << d;
    }
  }
}

struct SceneShape {
  std::int64_t length, window;
  int ring;  // Pages that there are: page p lies where page p + ring did.
};

class KernelsAttention : public testing::TestWithParam<SceneShape> {};

TEST_P(KernelsAttention, MatchesDoublesAndIsTheSameOnEveryIsaAndInEveryTile) {
  const SceneShape shape = GetParam();
  std::mt19937 random(31);
  for (const int head_dim : {32, 128, 256}) {
    for (int rows = 1; rows <= 9; ++rows) {
      if (shape.length < (rows + 1) / 2) continue;
      const Scene scene(head_dim, shape.length, shape.ring, rows, shape.window, random);
      const std::vector<float> want = scene.attend(scalar_table(), 0, rows);
      scene.expect_near_exact(want);
      for (const Kernels* table : all_tables()) {
        ASSERT_TRUE(same_bits(scene.attend(*table, 0, rows), want))
            << table->name << " head_dim " << head_dim << " rows " << rows;
        std::vector<float> alone;
        for (int r = 0; r < rows; ++r) {
          const std::vector<float> one = scene.attend(*table, r, r + 1);
          alone.insert(alone.end(), one.begin(), one.end());
        }
        ASSERT_TRUE(same_bits(alone, want))
            << table->name << " row by row, head_dim " << head_dim << " rows " << rows;
      }
    }
  }
}

constexpr std::int64_t kAll = 1 << 20;
INSTANTIATE_TEST_SUITE_P(
    Shapes, KernelsAttention,
    testing::Values(SceneShape{1, kAll, 1}, SceneShape{5, kAll, 1}, SceneShape{16, kAll, 1},
                    SceneShape{17, kAll, 1}, SceneShape{65, kAll, 2}, SceneShape{512, kAll, 8},
                    SceneShape{514, kAll, 9}, SceneShape{1100, kAll, 18},
                    SceneShape{517, 4, 2},     // Windows of four keys across a segment's end: some
                                               // rows see nothing of the second.
                    SceneShape{1100, 128, 4},  // The pages were written several times over.
                    SceneShape{1540, 512, 10}));

TEST(KernelsFloat, KeysAndValuesAreStoredAlikeOnEveryIsa) {
  std::mt19937 random(43);
  const std::vector<float> key = normals(256, 3.0F, random), value = normals(256, 3.0F, random);
  const std::size_t bytes = kernels::kv_head_bytes(KvFormat::kBf16, 256);
  std::vector<std::byte> want(bytes), got(bytes);
  for (const Kernels* table : all_tables()) {
    for (const int place : {0, 1, 15, 16, 63}) {
      std::ranges::fill(want, std::byte{7});
      std::ranges::fill(got, std::byte{7});
      scalar_table().store_kv(KvFormat::kBf16, key.data(), value.data(), 256, want.data(), place);
      table->store_kv(KvFormat::kBf16, key.data(), value.data(), 256, got.data(), place);
      EXPECT_EQ(got, want) << table->name << " place " << place;
    }
  }
}

TEST(KernelsFloat, AttentionToOneDominantKeyReturnsItsValue) {
  std::mt19937 random(37);
  Scene scene(64, 600, 10, 1, kAll, random);
  for (int d = 0; d < 64; ++d) {
    scene.queries[static_cast<std::size_t>(d)] = 1.0F;
    scene.keys[static_cast<std::size_t>(77 * 64 + d)] =
        8.0F;  // 512, where no other score comes near: all of exp underflows.
  }
  scene.write(77);
  for (const Kernels* table : all_tables()) {
    const std::vector<float> got = scene.attend(*table, 0, 1);
    for (std::size_t d = 0; d < 64; ++d)
      EXPECT_FLOAT_EQ(got[d], scene.values[77 * 64 + d]) << table->name;
  }
}

}  // namespace
}  // namespace lapidary
