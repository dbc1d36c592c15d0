#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <tuple>
#include <vector>

#include "kernels/half.h"
#include "kernels_data.h"
#include "kernels_tables.h"

namespace lapidary {
namespace {

using kernels::AttentionArgs;
using kernels::AttentionPart;
using kernels::Kernels;
using kernels::kKeyPanel;
using kernels::kSegment;
using kernels::KvFormat;

constexpr double kEps = 0x1p-24;        // Half a unit in the last place of fp32, relative.
constexpr std::int64_t kAll = 1 << 20;  // A window.
constexpr KvFormat kFormats[] = {KvFormat::kBf16, KvFormat::kInt8};

/// A value of a block of sixteen scales behind `values` numbers of sixteen keys each.
float scaled(const std::byte* block, std::size_t at, std::size_t values, std::size_t lane) {
  std::uint16_t scale = 0;
  std::memcpy(&scale, block + values * kKeyPanel + 2 * lane, 2);
  return static_cast<float>(static_cast<std::int8_t>(block[at])) * kernels::bf16_to_float(scale);
}

/// The key and the value that lie at `place` of a page, by what kv_layout.h says.
void read_back(KvFormat format, const std::byte* head, int place, int head_dim, float* key,
               float* value) {
  const kernels::KvPanelBytes bytes = kernels::kv_panel_bytes(format, head_dim);
  const auto panel = static_cast<std::size_t>(place / kKeyPanel);
  const auto lane = static_cast<std::size_t>(place % kKeyPanel);
  const std::byte* keys = head + panel * bytes.keys;
  const std::byte* values = head + kernels::kPagePanels * bytes.keys + panel * bytes.values;
  for (std::size_t d = 0; d < static_cast<std::size_t>(head_dim); ++d) {
    if (format == KvFormat::kInt8) {
      constexpr std::size_t kKeys = kernels::kKeyBlock, kValues = kernels::kValueBlock;
      key[d] = scaled(keys + d / kKeys * kernels::kKeyBlockBytes, d % kKeys * kKeyPanel + lane,
                      kKeys, lane);
      value[d] = scaled(values + d / kValues * kernels::kValueBlockBytes,
                        lane * kValues + d % kValues, kValues, lane);
    } else {
      std::uint16_t bits[2];
      const auto dim = static_cast<std::size_t>(head_dim);
      std::memcpy(&bits[0], keys + 2 * (d / 2 * 2 * kKeyPanel + 2 * lane + d % 2), 2);
      std::memcpy(&bits[1], values + 2 * (lane / 2 * 2 * dim + 2 * d + lane % 2), 2);
      key[d] = kernels::bf16_to_float(bits[0]);
      value[d] = kernels::bf16_to_float(bits[1]);
    }
  }
}

/// Keys and values of `length` positions in pages that lie in no order, and some query rows that
/// see windows of them.
struct Scene {
  Scene(KvFormat kind, int dim, std::int64_t positions, int ring, int row_count,
        std::int64_t window, std::mt19937& random)
      : format(kind),
        head_dim(dim),
        length(positions),
        rows(row_count),
        pool(static_cast<std::size_t>(ring) * kernels::kv_head_bytes(kind, dim),
             std::byte{0x46}),  // What was never written: large, finite.
        queries(normals(static_cast<std::size_t>(row_count * dim),
                        1.5F / std::sqrt(static_cast<float>(dim)), random)),
        keys(normals(static_cast<std::size_t>(positions * dim), 2.0F, random)),
        values(normals(keys.size(), 3.0F, random)) {
    for (std::int64_t page = 0; page * kernels::kPagePositions < length; ++page)
      pages.push_back(static_cast<std::int32_t>(ring - 1 - page % ring));
    for (std::int64_t p = 0; p < length; ++p) write(p);
    for (int r = 0; r < rows; ++r)
      scalar_table().rotate_query(format, queries.data() + r * head_dim, head_dim);
    for (int r = 0; r < rows; ++r) {  // Two heads a token: rows share what they see in pairs.
      row_last.push_back(length - 1 - (rows - 1) / 2 + r / 2);
      row_first.push_back(std::max<std::int64_t>(0, row_last.back() - window + 1));
    }
  }

  /// Stores a position, and has in `keys` and `values` what then is there.
  void write(std::int64_t p) {
    const auto first = static_cast<std::size_t>(p * head_dim);
    const int place = static_cast<int>(p % kernels::kPagePositions);
    std::byte* page = pool.data() + page_of(p);
    scalar_table().store_kv(format, keys.data() + first, values.data() + first, head_dim, page,
                            place);
    read_back(format, page, place, head_dim, keys.data() + first, values.data() + first);
  }
  std::size_t page_of(std::int64_t p) const {
    return static_cast<std::size_t>(pages[static_cast<std::size_t>(p / kernels::kPagePositions)]) *
           kernels::kv_head_bytes(format, head_dim);
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
    args.format = format;
    const std::int64_t seen = row_first[static_cast<std::size_t>(begin)] / kernels::kPagePositions;
    args.cache = {pool.data(), kernels::kv_head_bytes(format, head_dim), pages.data() + seen, seen};
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

  KvFormat format;
  int head_dim;
  std::int64_t length;
  int rows;
  std::vector<std::byte> pool;
  std::vector<std::int32_t> pages;
  std::vector<float> queries, keys, values;  // Queries and keys as they are multiplied.
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

class KernelsAttention : public testing::TestWithParam<std::tuple<KvFormat, SceneShape>> {};

TEST_P(KernelsAttention, MatchesDoublesAndIsTheSameOnEveryIsaAndInEveryTile) {
  const auto& [format, shape] = GetParam();
  std::mt19937 random(31);
  for (const int head_dim : {32, 96, 128, 256}) {
    for (int rows = 1; rows <= 9; ++rows) {
      if (shape.length < (rows + 1) / 2) continue;
      const Scene scene(format, head_dim, shape.length, shape.ring, rows, shape.window, random);
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

INSTANTIATE_TEST_SUITE_P(
    Shapes, KernelsAttention,
    testing::Combine(
        testing::ValuesIn(kFormats),
        testing::Values(SceneShape{1, kAll, 1}, SceneShape{5, kAll, 1}, SceneShape{16, kAll, 1},
                        SceneShape{17, kAll, 1}, SceneShape{65, kAll, 2}, SceneShape{512, kAll, 8},
                        SceneShape{514, kAll, 9}, SceneShape{1100, kAll, 18},
                        SceneShape{517, 4, 2},  // Windows of four keys across a segment's end: some
                                                // rows see nothing of the second.
                        SceneShape{1100, 128, 4},  // The pages were written several times over.
                        SceneShape{1540, 512, 10})));

/// Vectors that are hard to round: nothing, next to nothing, huge, and one value above all others.
std::vector<std::vector<float>> hard_vectors(std::size_t n, std::mt19937& random) {
  std::vector<std::vector<float>> all{normals(n, 3.0F, random),    std::vector<float>(n, 0.0F),
                                      normals(n, 1e-35F, random),  normals(n, 1e-20F, random),
                                      normals(n, 1e5F, random),    normals(n, 1e30F, random),
                                      std::vector<float>(n, -7.0F)};
  all.push_back(normals(n, 0.01F, random));
  all.back()[n / 2 + 3] = 4e4F;
  return all;
}

TEST(KernelsKeysAndValues, KeysAndValuesAreStoredAlikeOnEveryIsa) {
  std::mt19937 random(43);
  for (const KvFormat format : kFormats) {
    for (const int head_dim : {32, 96, 256}) {
      const auto dim = static_cast<std::size_t>(head_dim);
      const std::size_t bytes = kernels::kv_head_bytes(format, head_dim);
      std::vector<std::byte> want(bytes), got(bytes);
      for (const std::vector<float>& key : hard_vectors(dim, random)) {
        std::vector<float> value(key.rbegin(), key.rend()), want_query = key;
        scalar_table().rotate_query(format, want_query.data(), head_dim);
        for (const Kernels* table : all_tables()) {
          for (const int place : {0, 1, 15, 16, 63}) {
            std::ranges::fill(want, std::byte{7});
            std::ranges::fill(got, std::byte{7});
            scalar_table().store_kv(format, key.data(), value.data(), head_dim, want.data(), place);
            table->store_kv(format, key.data(), value.data(), head_dim, got.data(), place);
            EXPECT_EQ(got, want) << table->name << " place " << place;
          }
          std::vector<float> query = key;
          table->rotate_query(format, query.data(), head_dim);
          EXPECT_TRUE(same_bits(query, want_query)) << table->name;
        }
      }
    }
  }
}

// Half a step of a block, whose largest value is 127 steps or a bit less; the scale has eight bits.
TEST(KernelsKeysAndValues, Int8IsNearWhatWasStored) {
  std::mt19937 random(47);
  for (const int head_dim : {32, 96, 256}) {
    const auto dim = static_cast<std::size_t>(head_dim);
    for (const std::vector<float>& x : hard_vectors(dim, random)) {
      std::vector<std::byte> page(kernels::kv_head_bytes(KvFormat::kInt8, head_dim));
      std::vector<float> key(dim), value(dim), turned = x;
      scalar_table().store_kv(KvFormat::kInt8, x.data(), x.data(), head_dim, page.data(), 21);
      read_back(KvFormat::kInt8, page.data(), 21, head_dim, key.data(), value.data());
      const float turns = static_cast<float>(kernels::rotated_together(head_dim));
      scalar_table().rotate_query(KvFormat::kInt8, turned.data(), head_dim);
      for (float& t : turned) t *= turns;  // As long as the key is.
      const auto expect_near = [](std::span<const float> got, std::span<const float> stored) {
        float top = 0.0F;
        for (const float v : stored) top = std::max(top, std::fabs(v));
        for (std::size_t i = 0; i < got.size(); ++i)
          EXPECT_NEAR(got[i], stored[i], top * (0.503 * 1.008 / 127) + 1e-30) << "of " << top;
      };
      for (std::size_t d = 0; d < dim; d += kernels::kKeyBlock)
        expect_near(std::span(key).subspan(d, kernels::kKeyBlock),
                    std::span(turned).subspan(d, kernels::kKeyBlock));
      for (std::size_t d = 0; d < dim; d += kernels::kValueBlock)
        expect_near(std::span(value).subspan(d, kernels::kValueBlock),
                    std::span(x).subspan(d, kernels::kValueBlock));
      double plain = 0.0, rotated = 0.0, magnitude = 0.0;
      const std::vector<float> query = normals(dim, 1.0F, random);
      std::vector<float> turned_query = query;
      scalar_table().rotate_query(KvFormat::kInt8, turned_query.data(), head_dim);
      for (std::size_t d = 0; d < dim; ++d) {
        plain += double{query[d]} * x[d];
        rotated += double{turned_query[d]} * turned[d];
        magnitude += std::fabs(double{turned_query[d]} * turned[d]) + std::fabs(double{x[d]});
      }
      EXPECT_NEAR(rotated, plain, 32 * kEps * magnitude);
    }
  }
}

// What lies in pages where nothing was written yet, or of another sequence, must not matter; large
// keys must not make numbers that are none.
TEST(KernelsKeysAndValues, HugeKeysGiveNumbers) {
  std::mt19937 random(53);
  for (const KvFormat format : kFormats) {
    Scene scene(format, 128, 100, 2, 3, kAll, random);
    for (std::size_t i = 0; i < 128; ++i) {
      scene.keys[50 * 128 + i] = 1e8F;
      scene.keys[51 * 128 + i] = -1e8F;
      scene.keys[52 * 128 + i] = 0.0F;
      scene.values[50 * 128 + i] = 0.0F;
    }
    for (const int p : {50, 51, 52}) scene.write(p);
    const std::vector<float> want = scene.attend(scalar_table(), 0, 3);
    for (const float v : want) EXPECT_TRUE(std::isfinite(v));
    for (const Kernels* table : all_tables())
      EXPECT_TRUE(same_bits(scene.attend(*table, 0, 3), want)) << table->name;
  }
}

TEST(KernelsKeysAndValues, ToOneDominantKeyReturnsItsValue) {
  std::mt19937 random(37);
  for (const KvFormat format : kFormats) {
    Scene scene(format, 64, 600, 10, 1, kAll, random);
    for (std::size_t d = 0; d < 64; ++d) {
      scene.queries[d] = 1.0F;
      scene.keys[77 * 64 + d] =
          8.0F;  // 512, where no other score comes near: all of exp underflows.
    }
    scene.write(77);
    scalar_table().rotate_query(format, scene.queries.data(), 64);
    for (const Kernels* table : all_tables()) {
      const std::vector<float> got = scene.attend(*table, 0, 1);
      for (std::size_t d = 0; d < 64; ++d)
        EXPECT_FLOAT_EQ(got[d], scene.values[77 * 64 + d]) << table->name;
    }
  }
}

}  // namespace
}  // namespace lapidary
