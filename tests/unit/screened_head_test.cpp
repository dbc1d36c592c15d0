#include "ops/screened_head.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <vector>

#include "kernels_tables.h"
#include "test_head.h"

namespace lapidary {
namespace {

using kernels::kBlock;
using kernels::kPanelRows;

constexpr float kEverything = std::numeric_limits<float>::infinity();

/// All logits of one token, best first, as the full head computes them.
std::vector<ScoredRow> full(const kernels::Kernels& table, const HeadWeights& head,
                            const LinearInput& input, int token, int rows) {
  TestScratch scratch(input.quantized.columns);
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
  std::vector<TestScratch> scratch;
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
        const HeadInput input(x, columns_);
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
    const HeadInput input({head.input(12.0F)}, columns_);
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
  const HeadInput input({x}, columns_);
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
  HeadInput input({x}, columns_);
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
