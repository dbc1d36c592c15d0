// What speculation decides, with told costs: no clock and no model.

#include "runtime/draft_controller.h"

#include <gtest/gtest.h>

#include <vector>

#include "runtime/ngram_index.h"

namespace lapidary::testing {
namespace {

constexpr double kPlain = 0.010;

/// A text where a share of the guesses is right, on a machine where each row beyond the first costs
/// `row`; the seconds that `tokens` take, and what plain passes would take.
class Simulation {
 public:
  Simulation(double row, double share) : row_(row), share_(share) {}

  double run(int tokens, int length) {
    double seconds = 0;
    for (int drawn = 0; drawn < tokens;) {
      const int count = controller.choose_lookup(length, kMaxDraft).count;
      const double pass = kPlain * (1 + row_ * count);
      seconds += pass;
      controller.record_pass(1 + count, pass);
      ++drawn;
      drafted += count;
      bool hit = guess(length);
      for (int i = 1; i <= count && hit; ++i, ++drawn) {
        seconds += 0.0002;
        controller.record_draw(0.0002);
        hit = guess(length + i);
      }
    }
    return seconds;
  }

  DraftController controller{0.0};
  int drafted = 0;

 private:
  bool guess(int length) {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    const bool hit = static_cast<double>(state_ >> 40) < share_ * double(1U << 24);
    controller.record_lookup(length, hit);
    return hit;
  }

  double row_;
  double share_;
  std::uint64_t state_ = 1;
};

TEST(DraftController, NothingIsDraftedBeforeAPassWasMeasured) {
  DraftController controller(0.1);
  EXPECT_EQ(controller.choose_lookup(16, 8).count, 0);
  EXPECT_EQ(controller.choose_model(8).count, 0);
  controller.record_pass(1, kPlain);
  EXPECT_GT(controller.choose_lookup(16, 8).count, 0);
  EXPECT_EQ(controller.choose_lookup(16, 0).count, 0);
}

TEST(DraftController, BadGuessesCostLittle) {
  for (const double row : {0.05, 0.3, 1.0}) {
    for (const double share : {0.0, 0.02, 0.1, 0.3}) {
      for (const int length : {2, 3, 16}) {
        Simulation text(row, share);
        EXPECT_LT(text.run(400, length), 1.03 * 400 * kPlain)
            << row << " a row, " << share << " right, match " << length;
      }
    }
  }
}

TEST(DraftController, GoodGuessesPay) {
  Simulation text(0.3, 0.95);
  EXPECT_LT(text.run(400, 8), 0.65 * 400 * kPlain);
  Simulation cheap(0.1, 0.95);
  EXPECT_LT(cheap.run(400, 8), 0.4 * 400 * kPlain);
}

TEST(DraftController, RowsThatCostAPassEachAreSeldomTried) {
  Simulation text(1.0, 0.9);
  EXPECT_LT(text.run(2000, 16), 1.02 * 2000 * kPlain);
  EXPECT_LT(text.drafted, 200);
}

TEST(DraftController, ComesBackWhenTheTextRepeatsAgain) {
  Simulation text(0.2, 0.0);
  text.run(300, 4);
  const int before = text.drafted;
  for (int i = 0; i < 30; ++i) text.controller.record_lookup(4, true);
  EXPECT_GT(text.controller.choose_lookup(4, 8).count, 0) << "after " << before << " drafted";
}

TEST(DraftController, OneSlowPassIsNoVerdict) {
  Simulation text(0.2, 0.95);
  text.run(100, 8);
  const int before = text.controller.choose_lookup(8, 8).count;
  text.controller.record_pass(4, 1.0);
  EXPECT_GT(text.controller.choose_lookup(8, 8).count, 0);
  EXPECT_GT(before, 0);
}

TEST(NgramIndex, FindsTheLongestThenTheNewest) {
  NgramIndex index(64);
  //                              0  1  2  3  4  5  6  7  8  9 10 11 12
  const std::vector<TokenId> ids{9, 1, 2, 3, 4, 5, 2, 3, 7, 1, 2, 3};
  index.extend(ids);
  const NgramIndex::Match match = index.longest(ids);
  EXPECT_EQ(match.length, 3);  // 1 2 3, although 2 3 stands nearer.
  EXPECT_EQ(match.next, 4);
  const std::vector<TokenId> twice{1, 2, 5, 1, 2, 6, 1, 2};
  NgramIndex newest(64);
  newest.extend(twice);
  EXPECT_EQ(newest.longest(twice).next, 5);
}

TEST(NgramIndex, IsTheSameIdByIdAndAtOnce) {
  std::vector<TokenId> ids;
  for (int i = 0; i < 200; ++i) ids.push_back(i * i % 13);
  NgramIndex stepwise(200);
  for (std::size_t n = 1; n <= ids.size(); ++n) {
    const auto part = std::span<const TokenId>(ids).first(n);
    stepwise.extend(part);
    NgramIndex whole(200);
    whole.extend(part);
    EXPECT_EQ(stepwise.longest(part).next, whole.longest(part).next) << n;
    EXPECT_EQ(stepwise.longest(part).length, whole.longest(part).length) << n;
  }
}

TEST(NgramIndex, NothingWhereNothingRepeats) {
  NgramIndex index(16);
  std::vector<TokenId> ids{1};
  index.extend(ids);
  EXPECT_EQ(index.longest(ids).length, 0);
  EXPECT_EQ(index.longest({}).length, 0);
  ids = {1, 2, 3, 4, 5, 3};
  index.extend(ids);
  EXPECT_EQ(index.longest(ids).length, 0);
  ids = {3, 4, 3, 4};
  index.clear();
  index.extend(ids);
  EXPECT_EQ(index.longest(ids).length, 2);
  EXPECT_EQ(index.longest(ids).next, 2);
}

TEST(NgramIndex, APeriodGoesOn) {
  const std::vector<TokenId> ids{7, 1, 2, 1, 2};
  std::vector<TokenId> out(6);
  copy_continuation(ids, 3, out);
  EXPECT_EQ(out, (std::vector<TokenId>{1, 2, 1, 2, 1, 2}));
}

}  // namespace
}  // namespace lapidary::testing
