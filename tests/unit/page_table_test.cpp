// The pages of keys and values: who holds them, who may write them, what a table lets go of, and
// what of one sequence another can take.

#include "model/page_table.h"

#include <cstring>

#include "model_fixture.h"
#include "runtime/model_impl.h"
#include "runtime/prefix_cache.h"

namespace lapidary::testing {
namespace {

using kernels::kPagePositions;
using kernels::KvFormat;

const Config& config() { return tiny_model().impl().config; }

int locals() {
  return static_cast<int>(std::count(config().local.begin(), config().local.end(), true));
}
int globals() { return config().layers - locals(); }

class SequencePages : public ::testing::Test {
 protected:
  PageTable table(int context = 2048) { return {pool, config(), context, 512}; }

  /// Computes, as it were, positions up to `end`: marks the pages' first bytes with the writer.
  static void write(PageTable& table, int begin, int end, char writer) {
    table.prepare(begin, end);
    for (int layer = 0; layer < config().layers; ++layer) {
      for (int p = begin; p < end; ++p)
        table.head_at(layer, 0, p)[p % kPagePositions] = static_cast<std::byte>(writer);
    }
  }
  static char read(const PageTable& table, int layer, int position) {
    return static_cast<char>(table.head_at(layer, 0, position)[position % kPagePositions]);
  }

  KvPool pool{config(), KvFormat::kBf16, 400};
};

TEST_F(SequencePages, GlobalLayersKeepAllAndLocalOnesTheirWindow) {
  PageTable own = table();
  for (int begin = 0; begin < 1000; begin += 50) {
    write(own, begin, begin + 50, 'a');
    EXPECT_LE(own.pages(), sequence_pages(config(), 2048, 50));
  }
  const int seen = 950 - kMostRewind - config().sliding_window + 1;
  const std::int64_t local = (1000 + kPagePositions - 1) / kPagePositions - seen / kPagePositions;
  EXPECT_EQ(own.pages(),
            globals() * ((1000 + kPagePositions - 1) / kPagePositions) + locals() * local);
  EXPECT_EQ(pool.used(), own.pages());
  own.clear();
  EXPECT_EQ(pool.used(), 0);
}

TEST_F(SequencePages, ASharedPageIsCopiedBeforeItIsWritten) {
  PageTable first = table();
  write(first, 0, 200, 'a');
  PageTable second = table();
  second.share(first, 200);
  EXPECT_EQ(pool.used(), first.pages()) << "nothing was copied yet";
  write(second, 200, 210, 'b');
  EXPECT_EQ(pool.used(), first.pages() + config().layers) << "the last page of each layer was";
  write(first, 200, 205, 'c');
  for (int layer = 0; layer < config().layers; ++layer) {
    EXPECT_EQ(read(second, layer, 199), 'a');
    EXPECT_EQ(read(second, layer, 204), 'b');
    EXPECT_EQ(read(first, layer, 204), 'c');
    EXPECT_EQ(first.head_at(layer, 0, 3), second.head_at(layer, 0, 3)) << "full pages stay one";
  }
}

TEST_F(SequencePages, ATableReachesBackAsFarAsItsWindows) {
  PageTable own = table();
  write(own, 0, 60, 'a');
  EXPECT_TRUE(own.reaches_back(1)) << "nothing was let go of";
  for (int begin = 60; begin < 700; begin += 40) write(own, begin, begin + 40, 'a');
  EXPECT_TRUE(own.reaches_back(700));
  EXPECT_TRUE(own.reaches_back(700 - kMostRewind));
  EXPECT_FALSE(own.reaches_back(200));
  EXPECT_EQ(usable(own, 0), 0U);
  PageTable other = table();
  other.share(own, 690);
  EXPECT_EQ(read(other, 0, 689), 'a');
  write(other, 690, 700, 'b');
  EXPECT_EQ(read(own, 0, 695), 'a');
}

TEST_F(SequencePages, PromisesAreKept) {
  EXPECT_TRUE(pool.promise(300));
  EXPECT_FALSE(pool.promise(101));
  EXPECT_TRUE(pool.promise(100));
  pool.give_back(300);
  EXPECT_TRUE(pool.promise(250));
  EXPECT_EQ(pool.promised(), 350);
}

// What is kept for reuse goes when somebody who was promised pages needs them, and then a page that
// it shared is nobody else's.
TEST_F(SequencePages, WhatIsKeptMakesRoom) {
  PrefixCache kept;
  pool.on_shortage([&] { return kept.drop_oldest(); });
  PageTable own = table();
  for (TokenId id = 0; pool.used() < pool.capacity() - config().layers; ++id) {
    const std::vector<TokenId> ids(100, id);
    own.clear();
    write(own, 0, 100, 'a');
    kept.keep({ids, {}}, own);
  }
  EXPECT_GT(kept.size(), 10U);
  EXPECT_GT(pool.used(), own.pages());
  for (int end = 100; end < 1400; end += 60) write(own, end, end + 60, 'b');
  EXPECT_LE(pool.used(), pool.capacity());
  kept.clear();
  EXPECT_EQ(pool.used(), own.pages());
}

TEST(CommonPrefix, EndsWhereIdsOrPicturesDiffer) {
  const std::vector<TokenId> ids{2, 5, 9, 9, 9, 6, 7};
  const std::vector<TokenId> others{2, 5, 9, 9, 9, 6, 8};
  const PlacedPicture one{2, 3, {1}}, two{2, 3, {2}};
  const std::vector<PlacedPicture> a{one}, b{two};
  EXPECT_EQ(common_prefix({ids, a}, {ids, a}, 100), 7U);
  EXPECT_EQ(common_prefix({ids, a}, {others, a}, 100), 6U);
  EXPECT_EQ(common_prefix({ids, a}, {others, b}, 100), 2U) << "another picture";
  EXPECT_EQ(common_prefix({ids, a}, {ids, a}, 4), 2U) << "no picture is cut";
  EXPECT_EQ(common_prefix({ids, a}, {ids, a}, 5), 5U);
}

TEST_F(SequencePages, TheCacheGivesTheLongestThatCanBeTaken) {
  PrefixCache kept;
  std::vector<TokenId> ids(600);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>(i);
  PageTable own = table();
  for (int begin = 0; begin < 600; begin += 50) {
    write(own, begin, begin + 50, 'a');
    if (begin == 150) kept.keep({std::span(ids).first(200), {}}, own);
  }
  kept.keep({ids, {}}, own);
  EXPECT_EQ(kept.size(), 2U) << "the longer one does not reach back to where the shorter one ends";
  std::vector<TokenId> wanted(ids.begin(), ids.begin() + 400);
  wanted[300] = 9999;
  const PrefixCache::Match found = kept.find({wanted, {}}, 399);
  EXPECT_EQ(found.count, 200U);
  EXPECT_EQ(found.common, 300U);
  EXPECT_EQ(kept.find({ids, {}}, 599).count, 599U);
  EXPECT_EQ(kept.find({std::vector<TokenId>{1, 2, 3}, {}}, 2).count, 0U);
  // What is whole in another, and can be taken from there, is not kept twice.
  kept.keep({std::span(ids).first(599), {}}, own);
  EXPECT_EQ(kept.size(), 2U);
}

}  // namespace
}  // namespace lapidary::testing
