// Which snapshots stay, and what they hold.

#include "runtime/snapshots.h"

#include <random>

#include "model_fixture.h"
#include "runtime/model_impl.h"

namespace lapidary::testing {
namespace {

const Config& config() { return tiny_model().impl().config; }

class SnapshotsOfAText : public ::testing::Test {
 protected:
  /// Computes up to `end` in steps of `step`, with a snapshot behind each.
  void go_on(Snapshots& snapshots, int end, int step, SnapshotKind kind = SnapshotKind::kInterval) {
    for (; position < end; position += step) {
      table.prepare(position, position + step);
      snapshots.add(position + step, kind, table, {});
    }
  }

  std::int64_t held_beyond_table() const { return pool.used() - table.pages(); }

  KvPool pool{config(), kernels::KvFormat::kBf16, 4000};
  PageTable table{pool, config(), 60000, 512};
  std::int64_t one = Snapshots::pages_of_one(config(), 60000);
  int position = 0;
};

TEST_F(SnapshotsOfAText, HoldNoMorePagesThanTheyMay) {
  for (const std::int64_t most : {one, 3 * one, 10 * one}) {
    position = 0;
    table.clear();
    Snapshots snapshots(most);
    std::mt19937 random(1);
    while (position < 20000) {
      go_on(snapshots, position + 1, 1 + static_cast<int>(random() % 700));
      ASSERT_LE(held_beyond_table(), most);
    }
    EXPECT_FALSE(snapshots.all().empty());
    snapshots.clear();
    EXPECT_EQ(held_beyond_table(), 0);
  }
}

TEST_F(SnapshotsOfAText, GrowApartWithAge) {
  Snapshots snapshots(10 * one);
  go_on(snapshots, 51200, 512);
  EXPECT_EQ(snapshots.last(), 51200);
  for (int back = 512; back <= 51200; back += 512) {
    const Snapshots::Snapshot* there = snapshots.before(51200 - back);
    const int found = there == nullptr ? 0 : there->position;
    EXPECT_LE(51200 - back - found, std::max(512, 2 * back)) << back << " back";
  }
}

TEST_F(SnapshotsOfAText, ThoseOfTurnsStayLongerAndPinnedOnesStay) {
  Snapshots snapshots(6 * one);
  go_on(snapshots, 300, 300, SnapshotKind::kPinned);
  for (int turn = 0; turn < 6; ++turn) {
    go_on(snapshots, position + 2048, 512);
    go_on(snapshots, position + 1, 300, SnapshotKind::kTurn);
  }
  EXPECT_EQ(snapshots.all().front().position, 300);
  const auto of_turns =
      std::ranges::count(snapshots.all(), SnapshotKind::kTurn, &Snapshots::Snapshot::kind);
  EXPECT_GE(of_turns, 3);
  while (snapshots.all().size() > 1) snapshots.drop_one();
  EXPECT_EQ(snapshots.all().front().kind, SnapshotKind::kPinned);
  EXPECT_TRUE(snapshots.drop_one());
  EXPECT_FALSE(snapshots.drop_one());
}

TEST_F(SnapshotsOfAText, OfOnePlaceTheStrongerKindStays) {
  Snapshots snapshots(6 * one);
  go_on(snapshots, 100, 100, SnapshotKind::kPinned);
  snapshots.add(100, SnapshotKind::kInterval, table, {});
  EXPECT_EQ(snapshots.all().size(), 1U);
  EXPECT_EQ(snapshots.all().front().kind, SnapshotKind::kPinned);
  go_on(snapshots, 200, 100);
  snapshots.cut(199);
  EXPECT_EQ(snapshots.last(), 100);
  EXPECT_EQ(snapshots.before(99), nullptr);
}

}  // namespace
}  // namespace lapidary::testing
