#include "ops/screened_head.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/pack.h"
#include "kernels_tables.h"

namespace lapidary {
namespace {

using kernels::kBlock;
using kernels::kPanelRows;

constexpr float kEverything = std::numeric_limits<float>::infinity();

/// A head of random rows, and inputs that some of them are close to, as trained ones are.
class TestHead {
 public:
  /// `hidden`: one weight of each scale is so large that the upper plane holds nothing else.
  /// `period`: after so many rows they repeat.
  TestHead(BlockType type, int rows, int columns, std::uint32_t seed, bool hidden = false,
           int period = 0)
      : random_(seed), rows_(rows), columns_(columns) {
    std::vector<float> values(static_cast<std::size_t>(rows * columns));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = normal_(random_) * (hidden ? 0.002F : 0.05F);
      if (hidden && i % (type == BlockType::kQ6_K ? 16 : kBlock) == 0) values[i] = 0.12F;
      const auto repeated = static_cast<std::size_t>(period * columns);
      if (period > 0 && i >= repeated) values[i] = values[i - repeated];
    }
    pack(type, type == BlockType::kQ8_0   ? to_q8(values)
               : type == BlockType::kQ6_K ? to_q6(values)
                                          : as_bytes(values));
    values_ = std::move(values);
  }

  const HeadWeights& weights() const { return weights_; }

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
    std::vector<std::byte> out(values.size() / kBlock * 34);
    for (std::size_t b = 0; b < values.size() / kBlock; ++b) {
      const float* x = values.data() + b * kBlock;
      const std::uint16_t half = 0x1400;  // 2^-10
      std::memcpy(&out[b * 34], &half, 2);
      for (std::size_t k = 0; k < kBlock; ++k) {
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
    shape_head(weights_, type, rows_, columns_, true);
    PackedMatrix& panels = weights_.panels;
    PlanesMatrix& planes = weights_.planes;
    panels.panels = allocate(panels.bytes());
    planes.data = allocate(planes.bytes());
    const std::size_t stride = file.size() / static_cast<std::size_t>(rows_);
    for (int p = 0; p < weights_.panel_count(); ++p) {
      const auto index = static_cast<std::size_t>(p);
      const std::byte* rows = file.data() + index * kPanelRows * stride;
      const int count = std::min(kPanelRows, rows_ - p * kPanelRows);
      EXPECT_TRUE(kernels::pack_split_panel(type, rows, stride, count, columns_, planes.planes(p)));
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
struct Input {
  Arena arena;
  LinearInput view;

  Input(const std::vector<std::vector<float>>& tokens, int columns) : arena(1 << 20) {
    const std::size_t count = tokens.size() * static_cast<std::size_t>(columns);
    view.dense = {arena.allocate_array<float>(count).data(), static_cast<std::size_t>(columns)};
    view.quantized = {
        arena.allocate_array<std::int8_t>(count).data(),
        arena.allocate_array<std::int8_t>(count).data(),
        arena.allocate_array<float>(count / kBlock).data(),
        arena.allocate_array<std::int16_t>(count / kBlock * kernels::kBlockSums).data(),
        arena.allocate_array<std::int16_t>(count / kBlock * kernels::kBlockSums).data(),
        nullptr,
        arena.allocate_array<float>(count / kBlock).data(),
        arena.allocate_array<float>(count / kBlock).data(),
        columns};
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      std::copy(tokens[t].begin(), tokens[t].end(), view.dense[static_cast<int>(t)]);
      scalar_table().quantize16(tokens[t].data(), columns, view.quantized, static_cast<int>(t));
    }
  }
};

struct Scratch {
  Arena arena;
  std::byte* data;
  explicit Scratch(int columns)
      : arena(Arena::planned(kernels::matmul_scratch_bytes(columns))),
        data(arena.allocate(kernels::matmul_scratch_bytes(columns))) {}
};

/// All logits of one token, best first, as the full head computes them.
std::vector<ScoredRow> full(const kernels::Kernels& table, const HeadWeights& head,
                            const LinearInput& input, int token, int rows) {
  Scratch scratch(input.quantized.columns);
  std::vector<float> out(static_cast<std::size_t>(head.panel_count() * kPanelRows));
  head_panels(table, input, token, 1, head, 0, head.panel_count(), {out.data(), out.size()},
              scratch.data);
  std::vector<ScoredRow> scored;
  for (int r = 0; r < rows; ++r) scored.push_back({out[static_cast<std::size_t>(r)], r});
  std::sort(scored.begin(), scored.end(), [](const ScoredRow& a, const ScoredRow& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.row < b.row);
  });
  return scored;
}

bool search(Team& team, ScreenedHead& screened, const LinearInput& input, int tokens,
            const HeadQuery& query) {
  bool done = false;
  std::vector<Scratch> scratch;
  for (int i = 0; i < team.threads(); ++i) scratch.emplace_back(input.quantized.columns);
  auto body = [&](Worker& worker) {
    const bool result = screened.search(worker, input, tokens, query,
                                        scratch[static_cast<std::size_t>(worker.index())].data);
    if (worker.index() == 0) done = result;
  };
  team.run(body);
  return done;
}

void expect_found(std::span<const ScoredRow> found, const std::vector<ScoredRow>& all,
                  const HeadQuery& query, const char* what) {
  std::size_t wanted = 0;
  while (wanted < static_cast<std::size_t>(query.count) && wanted < all.size() &&
         all[wanted].logit >= all[0].logit - query.range)
    ++wanted;
  ASSERT_GE(found.size(), wanted) << what;
  for (std::size_t i = 0; i < wanted; ++i) {
    ASSERT_EQ(found[i].row, all[i].row) << what << " place " << i;
    ASSERT_EQ(std::bit_cast<std::uint32_t>(found[i].logit),
              std::bit_cast<std::uint32_t>(all[i].logit))
        << what << " place " << i;
  }
  for (const std::int32_t row : query.also) {
    const auto at = std::find_if(found.begin(), found.end(),
                                 [row](const ScoredRow& r) { return r.row == row; });
    const auto in_all =
        std::find_if(all.begin(), all.end(), [row](const ScoredRow& r) { return r.row == row; });
    ASSERT_NE(at, found.end()) << what << " row " << row;
    ASSERT_EQ(at->logit, in_all->logit);
  }
}

class ScreenedHeads : public ::testing::TestWithParam<BlockType> {
 protected:
  const int columns_ = GetParam() == BlockType::kQ6_K ? 512 : 320;
};

TEST_P(ScreenedHeads, FindWhatTheFullHeadFinds) {
  constexpr int kRows = 3011;
  TestHead head(GetParam(), kRows, columns_, 5);
  const std::vector<std::int32_t> also = {0, 17, 2999, 1500};
  for (const kernels::Kernels* table : all_tables()) {
    for (const int threads : {1, 3}) {
      Team team(threads);
      ScreenedHead screened(head.weights(), *table);
      for (const int tokens : {1, 2, 5, 8}) {
        std::vector<std::vector<float>> x;
        for (int t = 0; t < tokens; ++t) x.push_back(head.input(12.0F));
        const Input input(x, columns_);
        for (const HeadQuery& query :
             {HeadQuery{kRows, 1, kEverything}, HeadQuery{kRows, 8, kEverything, also},
              HeadQuery{2990, 3, kEverything}, HeadQuery{kRows, 64, 2.5F}}) {
          ASSERT_TRUE(search(team, screened, input.view, tokens, query)) << table->name;
          for (int t = 0; t < tokens; ++t) {
            expect_found(screened.found(t), full(*table, head.weights(), input.view, t, query.rows),
                         query, table->name);
          }
        }
      }
      EXPECT_EQ(screened.stats().gave_up, 0U);
      EXPECT_LT(screened.stats().low_rows, screened.stats().rows / 2) << "nothing was saved";
    }
  }
}

TEST_P(ScreenedHeads, OfEqualLogitsTheLowerRowIsFound) {
  constexpr int kRows = 3000;
  TestHead head(GetParam(), kRows, columns_, 7, false, 1000);
  Team team(2);
  for (const kernels::Kernels* table : all_tables()) {
    ScreenedHead screened(head.weights(), *table);
    const Input input({head.input(12.0F)}, columns_);
    for (const int count : {1, 2, 3, 10}) {  // Of three equal rows, one, two or all.
      const HeadQuery query{kRows, count, kEverything};
      ASSERT_TRUE(search(team, screened, input.view, 1, query)) << table->name;
      const auto all = full(*table, head.weights(), input.view, 0, kRows);
      ASSERT_EQ(all[0].logit, all[2].logit);
      expect_found(screened.found(0), all, query, table->name);
    }
  }
}

TEST_P(ScreenedHeads, GiveUpWhereNoBoundHelps) {
  constexpr int kRows = 6000;
  TestHead hidden(GetParam(), kRows, columns_, 9, true);
  Team team(2);
  ScreenedHead screened(hidden.weights(), scalar_table());
  std::vector<float> x = hidden.input(0.0F);
  for (std::size_t k = 0; k < x.size(); k += kBlock) x[k] = 0.0F;
  const Input input({x}, columns_);
  EXPECT_FALSE(search(team, screened, input.view, 1, {kRows, 64, kEverything}));
  EXPECT_EQ(screened.stats().gave_up, 1U);
  // The next one is not tried. Nothing of the first is left behind.
  const HeadQuery query{40, 4, kEverything};
  EXPECT_FALSE(search(team, screened, input.view, 1, query));
  EXPECT_EQ(screened.stats().gave_up, 2U);
  ASSERT_TRUE(search(team, screened, input.view, 1, query));
  expect_found(screened.found(0), full(scalar_table(), hidden.weights(), input.view, 0, 40), query,
               "after it gave up");
}

TEST_P(ScreenedHeads, NotANumberIsNotLost) {
  constexpr int kRows = 512;
  TestHead head(GetParam(), kRows, columns_, 11);
  Team team(1);
  ScreenedHead screened(head.weights(), scalar_table());
  std::vector<float> x = head.input(12.0F);
  x[40] = std::numeric_limits<float>::quiet_NaN();
  Input input({x}, columns_);
  for (int b = 0; b < columns_ / kBlock; ++b)
    input.view.quantized.scales[b] = std::numeric_limits<float>::quiet_NaN();
  if (search(team, screened, input.view, 1, {kRows, 1, kEverything})) {
    EXPECT_TRUE(screened.found(0).empty()) << "no NaN is above anything";
  }
}

INSTANTIATE_TEST_SUITE_P(Types, ScreenedHeads,
                         ::testing::Values(BlockType::kQ8_0, BlockType::kQ6_K, BlockType::kF32),
                         [](const auto& type) {
                           return type.param == BlockType::kQ8_0   ? "Q8_0"
                                  : type.param == BlockType::kQ6_K ? "Q6_K"
                                                                   : "Float";
                         });

}  // namespace
}  // namespace lapidary
