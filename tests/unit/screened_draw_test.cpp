#include <bit>
#include <memory>

#include "gguf_builder.h"
#include "lone_decoder.h"
#include "model_fixture.h"
#include "runtime/model_impl.h"
#include "runtime/sampler.h"
#include "test_data.h"

namespace lapidary::testing {
namespace {

constexpr int kChunk = 512;
constexpr int kRows = HeadQuery::kMostTokens;

const std::vector<SamplingOptions>& all_options() {
  static const std::vector<SamplingOptions> options = {
      {.temperature = 0},
      {.seed = 3},
      {.temperature = 0.8F, .top_k = 40, .repeat_penalty = 1.2F, .seed = 4},
      {.temperature = 1.3F, .top_k = 0, .top_p = 1, .min_p = 0.05F, .seed = 5},
  };
  return options;
}

/// Draws at every position of a text twice: from all logits, and from what a search finds.
class Comparison {
 public:
  explicit Comparison(const Model& model)
      : model_(model),
        decoder_(model, team_, 2048, kChunk),
        sampler_(model.info().vocabulary),
        logits_(static_cast<std::size_t>(kRows) * vocabulary()) {}

  void run(std::span<const TokenId> ids) {
    for (std::size_t begin = 0; begin < ids.size(); begin += kChunk) {
      const auto chunk = ids.subspan(begin, std::min<std::size_t>(kChunk, ids.size() - begin));
      decoder_.forward(chunk, static_cast<int>(begin));
      for (std::size_t row = 0; row < chunk.size(); row += kRows)
        compare_rows(ids, begin, static_cast<int>(row),
                     static_cast<int>(std::min<std::size_t>(kRows, chunk.size() - row)));
    }
  }

  int steps = 0;
  int searched = 0;  // Of them, those that were answered without the full head.

 private:
  std::size_t vocabulary() const { return static_cast<std::size_t>(model_.info().vocabulary); }
  std::span<const float> full(int row) const {
    return std::span(logits_).subspan(static_cast<std::size_t>(row) * vocabulary(), vocabulary());
  }

  void compare_rows(std::span<const TokenId> ids, std::size_t begin, int first, int count) {
    decoder_.logits(first, count,
                    std::span(logits_).first(static_cast<std::size_t>(count) * vocabulary()));
    for (const SamplingOptions& options : all_options()) {
      if (options.repeat_penalty != 1.0F) {
        for (int row = 0; row < count; ++row) compare(ids, begin, first, row, 1, options);
      } else {
        compare(ids, begin, first, 0, count, options);
      }
    }
  }

  /// Rows [first + row, first + row + count) of the last forward in one search; a query that looks
  /// at recent ids is one row's own.
  void compare(std::span<const TokenId> ids, std::size_t begin, int first, int row, int count,
               const SamplingOptions& options) {
    const auto history = [&](int i) {
      return ids.first(begin + static_cast<std::size_t>(first + row + i) + 1);
    };
    steps += count;
    const auto query = sampler_.query(vocabulary(), history(0), options);
    ASSERT_TRUE(query.has_value());
    if (!decoder_.best_logits(first + row, count, *query)) return;
    for (int i = 0; i < count; ++i) {
      const std::span<const ScoredRow> best = decoder_.best(i);
      for (const ScoredRow& scored : best) {
        ASSERT_EQ(
            std::bit_cast<std::uint32_t>(scored.logit),
            std::bit_cast<std::uint32_t>(full(row + i)[static_cast<std::size_t>(scored.row)]));
      }
      const std::size_t position = history(i).size();
      const auto id = sampler_.sample_best(best, *query, options, position);
      if (!id) continue;
      ++searched;
      ASSERT_EQ(*id, sampler_.sample(full(row + i), history(i), options, position))
          << "position " << position << " temperature " << options.temperature;
    }
  }

  Model model_;
  Team team_;
  LoneDecoder decoder_;
  Sampler sampler_;
  std::vector<float> logits_;
};

TEST(ScreenedDraw, RealTextsInSeveralLanguagesDrawTheFullHeadsTokens) {
  if (real_model_path() == nullptr) GTEST_SKIP() << "LAPIDARY_TEST_MODEL is not set";
  Comparison comparison(real_model());
  for (const char* name : {"botchan_700", "botchan_2000", "neko_1100", "fr", "ja", "code", "json"})
    comparison.run(golden_ids("gemma3-270m/text.jsonl", name));
  EXPECT_GE(comparison.steps, 10000);
  EXPECT_GT(comparison.searched, comparison.steps / 2);
  RecordProperty("searched", comparison.searched);
}

TEST(ScreenedDraw, ADenseHeadIsScreenedThroughACopy) {
  Comparison comparison(tiny_model());
  comparison.run(tiny_ids());
  EXPECT_GT(comparison.searched, 0);
}

/// Random weights in Q6_K.
test::GgufBuilder q6_file() {
  return test::tiny_model(
      {.layers = 2, .width = 256, .feed_forward = 256, .query_heads = 8, .type = BlockType::kQ6_K});
}

TEST(ScreenedDraw, AQ6KHeadIsScreenedInPlace) {
  const test::TempFile file(q6_file().build());
  const Model plain = Model::load(file.path(), {.screened_head = false});
  const Model screened = Model::load(file.path());
  EXPECT_GT(screened.info().weight_bytes, plain.info().weight_bytes);
  EXPECT_LT(screened.info().weight_bytes, plain.info().weight_bytes * 5 / 4) << "no second copy";
  std::vector<TokenId> ids{2};
  while (ids.size() < 200)
    ids.push_back(static_cast<TokenId>(ids.size() * 7919 % test::kTinyVocabulary));
  Comparison comparison(screened);
  comparison.run(ids);
  EXPECT_GT(comparison.searched, 100);
  std::vector<std::uint64_t> hashes[2];
  for (const SamplingOptions& sampling : all_options()) {
    std::vector<std::vector<TokenId>> drawn;
    for (const Model& model : {plain, screened}) {
      Session session(model, {.context = 256, .threads = 2});
      hashes[drawn.size()] = hash_positions(session, std::span(ids).first(40));
      drawn.push_back(session.generate({.max_tokens = 60, .sampling = sampling}).ids);
    }
    EXPECT_EQ(hashes[0], hashes[1]) << "all logits are the plain head's";
    EXPECT_EQ(drawn[0], drawn[1]);
  }
}

TEST(ScreenedDraw, AQ6KHeadWithAnInfiniteScaleIsRefused) {
  test::GgufBuilder builder = q6_file();
  std::string& data = builder.tensor("token_embd.weight").data;
  data.replace(data.size() - 2, 2, test::number_bytes<std::uint16_t>(0x7C00));
  const test::TempFile file(builder.build());
  const Error error = thrown_error([&] { Model::load(file.path()); });
  EXPECT_EQ(error.code(), ErrorCode::kFile);
  EXPECT_TRUE(contains(error.what(), "token_embd.weight")) << error.what();
}

TEST(ScreenedDraw, TextsDoNotDependOnHowTheHeadIsLaidOut) {
  const Model plain =
      Model::load(test_data("tiny-gemma3-text-bf16.gguf"), {.screened_head = false});
  EXPECT_LT(plain.info().weight_bytes, tiny_model().info().weight_bytes);
  for (const SamplingOptions& sampling : all_options()) {
    std::vector<std::vector<TokenId>> drawn;
    for (const Model& model : {plain, tiny_model()}) {
      Session session(model, {.context = 256, .threads = 1});
      session.append(std::span(tiny_ids()).first(20));
      EXPECT_EQ(session.draw(sampling), session.draw(sampling)) << "drawing adds nothing";
      drawn.push_back(session.generate({.max_tokens = 60, .sampling = sampling}).ids);
    }
    EXPECT_EQ(drawn[0], drawn[1]);
  }
}

TEST(ScreenedDraw, StatisticsCountWhatWasRead) {
  Session session(tiny_model(), {.context = 64, .threads = 1});
  EXPECT_EQ(session.head_stats().searches, 0U);
  session.append(std::span(tiny_ids()).first(8));
  session.draw({.temperature = 0});
  const HeadStats stats = session.head_stats();
  EXPECT_EQ(stats.searches, 1U);
  EXPECT_GT(stats.rows, 0U);
  EXPECT_GT(stats.exact_rows, 0U);
  EXPECT_LE(stats.low_rows, stats.rows);
}

/// A head that no bound can search: one weight of each block of 32 decides its scale, so the upper
/// bits of the others hold nothing, and the last norm takes away what that weight meets.
test::GgufBuilder hopeless_file() {
  test::GgufBuilder builder = test::tiny_model({.layers = 1, .type = BlockType::kQ8_0});
  std::string& head = builder.tensor("token_embd.weight").data;
  for (std::size_t block = 0; block < head.size(); block += 34) {
    for (std::size_t k = 0; k < 32; ++k)
      head[block + 2 + k] = static_cast<char>(k == 0 ? 127 : head[block + 2 + k] % 4);
  }
  std::string& norm = builder.tensor("output_norm.weight").data;
  for (std::size_t k = 0; k < norm.size() / 4; k += 32)
    norm.replace(4 * k, 4, test::number_bytes(0.0F));
  return builder;
}

TEST(ScreenedDraw, AfterSearchesInVainOneThreeSevenDrawsAreNotSearched) {
  const test::TempFile file(hopeless_file().build());
  const Model model = Model::load(file.path());
  Session session(model, {.context = 128, .threads = 1});
  session.append(std::vector<TokenId>{2, 300, 301});
  std::vector<int> searched;
  std::uint64_t read = 0;
  for (int draw = 1; draw <= 64; ++draw) {
    session.append(std::vector<TokenId>{300 + draw % 20});
    session.draw({.temperature = 0});
    const HeadStats stats = session.head_stats();
    if (stats.five_bit_rows > read) searched.push_back(draw);  // Five bits are tried last.
    read = stats.five_bit_rows;
    EXPECT_EQ(stats.searches, static_cast<std::uint64_t>(draw)) << "every draw asks the head";
    EXPECT_EQ(stats.gave_up, stats.searches);
  }
  EXPECT_EQ(searched, (std::vector<int>{1, 3, 7, 15, 31, 63}));
}

TEST(ScreenedDraw, AnEmptySessionHasNothingToDrawFrom) {
  Session session(tiny_model(), {.context = 64, .threads = 1});
  EXPECT_EQ(thrown_error([&] { session.draw({}); }).code(), ErrorCode::kUsage);
  session.append(std::span(tiny_ids()).first(2));
  EXPECT_EQ(thrown_error([&] { session.draw({.temperature = -1}); }).code(), ErrorCode::kUsage);
}

}  // namespace
}  // namespace lapidary::testing
