#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>
#include <thread>

#include "lone_decoder.h"
#include "model_fixture.h"
#include "runtime/model_impl.h"
#include "test_data.h"

namespace lapidary::testing {
namespace {

constexpr const char* kTextCases = "gemma3-270m/text.jsonl";

class SessionBitsByKvType : public ::testing::TestWithParam<KvType> {};
INSTANTIATE_TEST_SUITE_P(KvTypes, SessionBitsByKvType,
                         ::testing::Values(KvType::kBf16, KvType::kInt8));

// Law 2: one sequence, many schedules, the same bits at every position.
TEST_P(SessionBitsByKvType, TinyModelUnderEverySchedule) {
  const std::vector<TokenId>& ids = tiny_ids();
  Session reference(tiny_model(), {.context = 512, .chunk = 512, .threads = 2, .kv = GetParam()});
  const std::vector<std::uint64_t> expected = hash_positions(reference, ids);
  ASSERT_EQ(expected.size(), ids.size());
  for (int threads : {1, 2, 3}) {
    for (int chunk : {1, 7, 37, 64, 100, 512}) {
      Session session(tiny_model(),
                      {.context = 512, .chunk = chunk, .threads = threads, .kv = GetParam()});
      EXPECT_EQ(hash_positions(session, ids), expected) << threads << " threads, chunk " << chunk;
    }
  }
}

TEST_P(SessionBitsByKvType, TinyModelPrefillOrTokenByTokenRoundTheWindow) {
  const std::vector<TokenId>& ids = tiny_ids();
  Session session(tiny_model(), {.context = 512, .chunk = 512, .kv = GetParam()});
  Session stepwise(tiny_model(), {.context = 512, .chunk = 512, .kv = GetParam()});
  for (std::size_t length : {1U, 2U, 63U, 64U, 65U, 128U, 129U, 200U}) {
    session.clear();
    session.append(std::span(ids).first(length));
    while (static_cast<std::size_t>(stepwise.position()) < length) {
      stepwise.append(std::span(ids).subspan(static_cast<std::size_t>(stepwise.position()), 1));
    }
    EXPECT_EQ(hash_bits(session.logits()), hash_bits(stepwise.logits())) << length << " tokens";
  }
}

// What the last layer leaves out of rows without logits is nothing that others need: neither the
// rows behind them nor the tokens that follow.
TEST(SessionBits, TinyModelWithLogitsOfTheLastRows) {
  const std::vector<TokenId>& ids = tiny_ids();
  const Model& model = tiny_model();
  const auto vocabulary = static_cast<std::size_t>(model.info().vocabulary);
  Team team(2);
  LoneDecoder whole(model, team, 512, 512), part(model, team, 512, 512);
  std::vector<float> expected(vocabulary), got(vocabulary);
  const auto compare = [&](int row) {
    whole.logits(row, 1, expected);
    part.logits(row, 1, got);
    EXPECT_EQ(hash_bits(got), hash_bits(expected)) << "row " << row;
  };
  constexpr int kCount = 150;
  for (int first_row : {1, 7, 133, 148, 149}) {
    whole.forward(std::span(ids).first(kCount), 0);
    part.forward(std::span(ids).first(kCount), 0, first_row);
    for (int row = first_row; row < kCount; ++row) compare(row);
    for (LoneDecoder* decoder : {&whole, &part})
      decoder->forward(std::span(ids).subspan(kCount, 1), kCount);
    compare(0);
  }
}

// Nearly: the tiny model's logits are of the order of 1.
TEST(SessionBits, TinyModelInInt8IsNearBf16) {
  const std::vector<TokenId>& ids = tiny_ids();
  Session exact(tiny_model(), {.context = 512}), rounded(tiny_model(), {.kv = KvType::kInt8});
  exact.append(ids);
  rounded.append(ids);
  const std::span<const float> want = exact.logits(), got = rounded.logits();
  EXPECT_NE(hash_bits(got), hash_bits(want));
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 0.1) << i;
}

// Any kind of keys and values is as deep as it says, and goes on from there.
TEST(SessionBits, TokensThatAreMadeUp) {
  for (const KvType kv : {KvType::kBf16, KvType::kInt8}) {
    Session session(tiny_model(), {.context = 600, .chunk = 100, .kv = kv});
    session.append(std::span(tiny_ids()).first(50));
    append_made_up(session, 500);
    EXPECT_EQ(session.position(), 550);
    EXPECT_FALSE(session.logits().empty());
    session.append(std::span(tiny_ids()).first(50));
    for (const float logit : session.logits()) ASSERT_TRUE(std::isfinite(logit));
    EXPECT_THROW(append_made_up(session, 1), Error);
    EXPECT_THROW(append_made_up(session, 0), Error);
  }
  Session shared(Engine(tiny_model(), {.context = 64}));
  EXPECT_THROW(append_made_up(shared, 2), Error);
}

/// `count` ids of the tiny model's text, again and again.
std::vector<TokenId> long_ids(std::size_t count) {
  std::vector<TokenId> ids;
  while (ids.size() < count) ids.insert(ids.end(), tiny_ids().begin(), tiny_ids().end());
  ids.resize(count);
  return ids;
}

// So many keys that threads share them out by segments, for one token and for some.
TEST_P(SessionBitsByKvType, TinyModelWithALongCache) {
  const std::vector<TokenId> ids = long_ids(2700);
  constexpr std::size_t kPrompt = 2690;
  std::vector<std::uint64_t> expected;
  for (int threads : {1, 2, 3}) {
    for (std::size_t step : {1U, 3U}) {
      Session session(tiny_model(), {.context = 2700, .threads = threads, .kv = GetParam()});
      session.append(std::span(ids).first(kPrompt));
      std::vector<std::uint64_t> hashes{hash_bits(session.logits())};
      const auto add = [&](int, std::span<const float> logits) {
        hashes.push_back(hash_bits(logits));
      };
      for (std::size_t i = kPrompt; i < ids.size(); i += step)
        session.append_with_logits(std::span(ids).subspan(i, std::min(step, ids.size() - i)), add);
      if (expected.empty()) expected = hashes;
      EXPECT_EQ(hashes, expected) << threads << " threads, " << step << " at a time";
    }
  }
}

// Law 2 for sequences that are computed together: each has the bits that it has alone.
TEST_P(SessionBitsByKvType, TinyModelTogetherOrAlone) {
  const std::vector<TokenId> ids = long_ids(2300);
  const std::vector<std::size_t> prompts{1, 70, 2200, 130, 9};
  constexpr std::size_t kSteps = 12;
  for (int threads : {1, 2, 3}) {
    std::vector<Session> together, alone;
    std::vector<Session*> sessions;
    for (const std::size_t prompt : prompts) {
      for (std::vector<Session>* list : {&together, &alone}) {
        list->emplace_back(tiny_model(),
                           SessionOptions{.context = 2300, .threads = threads, .kv = GetParam()});
        list->back().append(std::span(ids).first(prompt));
      }
    }
    for (Session& session : together) sessions.push_back(&session);
    for (std::size_t step = 0; step < kSteps; ++step) {
      std::vector<TokenId> next;
      for (const std::size_t prompt : prompts) next.push_back(ids[prompt + step]);
      append_together(sessions, next);
      for (std::size_t i = 0; i < prompts.size(); ++i) {
        alone[i].append(std::span(next).subspan(i, 1));
        EXPECT_EQ(hash_bits(together[i].logits()), hash_bits(alone[i].logits()))
            << threads << " threads, sequence " << i << ", step " << step;
      }
    }
    // What they wrote to their caches is as good as what they write alone.
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      const auto rest = std::span(ids).subspan(prompts[i] + kSteps, 20);
      together[i].append(rest);
      alone[i].append(rest);
      EXPECT_EQ(hash_bits(together[i].logits()), hash_bits(alone[i].logits()));
      EXPECT_EQ(together[i].draw({.seed = 7}), alone[i].draw({.seed = 7}));
    }
  }
}

TEST(Session, RefusesWhatCannotGoOnTogether) {
  Session a(tiny_model(), {.context = 4, .threads = 1}),
      b(tiny_model(), {.context = 4, .threads = 1});
  Session other(Model::load(test_data("tiny-gemma3-text-bf16.gguf")), {.context = 4, .threads = 1});
  const std::vector<TokenId> ids{5, 6};
  const auto refused = [](std::vector<Session*> sessions, std::vector<TokenId> next) {
    try {
      append_together(sessions, next);
    } catch (const Error& error) {
      return error.code();
    }
    ADD_FAILURE() << "not refused";
    return ErrorCode::kFile;
  };
  EXPECT_EQ(refused({}, {}), ErrorCode::kUsage);
  EXPECT_EQ(refused({&a, &b}, {5}), ErrorCode::kUsage);
  EXPECT_EQ(refused({&a, &a}, {5, 6}), ErrorCode::kUsage);
  EXPECT_EQ(refused({&a, &other}, {5, 6}), ErrorCode::kUsage);
  EXPECT_EQ(refused({&a, &b}, {5, -1}), ErrorCode::kUsage);
  EXPECT_EQ(refused({&a, &b}, {5, tiny_model().info().vocabulary}), ErrorCode::kUsage);
  b.append(std::vector<TokenId>{1, 2, 3, 4});
  EXPECT_EQ(refused({&a, &b}, {5, 6}), ErrorCode::kContext);
  EXPECT_EQ(a.position(), 0);
  EXPECT_EQ(b.position(), 4);
}

TEST(SessionBits, TheScalarKernelsGiveTheSame) {
  const std::string path = test_data("tiny-gemma3-text-bf16.gguf");
  Session best(Model::load(path), {.context = 512});
  Session scalar(Model::load(path, {.isa = "scalar"}), {.context = 512});
  EXPECT_EQ(hash_positions(scalar, tiny_ids()), hash_positions(best, tiny_ids()));
}

/// Hashes of the real model's logits: every position of the first 560 (past the window of 512),
/// then where two longer texts end.
std::vector<std::uint64_t> hash_schedule(std::span<const TokenId> ids, int threads, int chunk) {
  Session session(real_model(), {.context = 3072, .chunk = chunk, .threads = threads});
  std::vector<std::uint64_t> hashes = hash_positions(session, ids.first(560));
  for (std::size_t length : {1500U, 3000U}) {
    const std::size_t begin = static_cast<std::size_t>(session.position());
    session.append(ids.subspan(begin, length - begin));
    hashes.push_back(hash_bits(session.logits()));
  }
  return hashes;
}

TEST(SessionBits, RealModelPastTheWindow) {
  if (real_model_path() == nullptr) GTEST_SKIP() << "LAPIDARY_TEST_MODEL is not set";
  std::vector<TokenId> ids = golden_ids(kTextCases, "botchan_2000");
  const std::vector<TokenId> more = golden_ids(kTextCases, "neko_1100");
  ids.insert(ids.end(), more.begin(), more.begin() + 1000);
  ASSERT_EQ(ids.size(), 3000U);
  const std::vector<std::uint64_t> expected = hash_schedule(ids, 2, 512);
  EXPECT_EQ(hash_schedule(ids, 1, 37), expected) << "chunk 37, one thread";
  EXPECT_EQ(hash_schedule(ids, 2, 64), expected) << "chunk 64, two threads";
  Session single(real_model(), {.context = 3072, .chunk = 1, .threads = 2});
  EXPECT_EQ(hash_positions(single, std::span(ids).first(560)),
            std::vector(expected.begin(), expected.begin() + 560))
      << "token by token";

  Session prefill(real_model(), {.context = 3072, .threads = 2});
  for (std::size_t length : {511U, 512U, 513U, 1500U, 3000U}) {
    const std::uint64_t hash = length == 3000   ? expected[561]
                               : length == 1500 ? expected[560]
                                                : expected[length - 1];
    prefill.clear();
    prefill.append(std::span(ids).first(length));
    EXPECT_EQ(hash_bits(prefill.logits()), hash) << length << " tokens at once";
    prefill.clear();
    prefill.append(std::span(ids).first(length - 3));
    for (std::size_t i = length - 3; i < length; ++i) prefill.append(std::span(ids).subspan(i, 1));
    EXPECT_EQ(hash_bits(prefill.logits()), hash) << length << " tokens, the last three decoded";
  }
}

TEST(SessionGolden, TinyTextAgreesWithTheReference) {
  const nlohmann::json golden = golden_case("vision/vision.jsonl", "text_only");
  const std::vector<double> nll = golden.at("nll").get<std::vector<double>>();
  const std::vector<TokenId>& ids = tiny_ids();
  Session session(tiny_model(), {.context = 512});
  double worst_nll = 0;
  session.append_with_logits(ids, [&](int position, std::span<const float> logits) {
    const std::size_t next = static_cast<std::size_t>(position) + 1;
    if (next >= ids.size()) return;
    const double best = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (float logit : logits) sum += std::exp(static_cast<double>(logit) - best);
    const double here = std::log(sum) + best - logits[static_cast<std::size_t>(ids[next])];
    worst_nll = std::max(worst_nll, std::abs(here - nll[next - 1]));
  });
  EXPECT_LT(worst_nll, 0.06);
  const std::vector<int> best_ids = golden.at("last_top20_ids").get<std::vector<int>>();
  const std::vector<double> best = golden.at("last_top20_logits").get<std::vector<double>>();
  for (std::size_t i = 0; i < best.size(); ++i) {
    EXPECT_NEAR(session.logits()[static_cast<std::size_t>(best_ids[i])], best[i], 0.05);
  }
}

TEST(SessionGolden, RealTextsAgreeWithTheReference) {
  if (real_model_path() == nullptr) GTEST_SKIP() << "LAPIDARY_TEST_MODEL is not set";
  for (const char* name : {"capital", "count", "code", "fr", "ja", "json", "botchan_700"}) {
    const nlohmann::json golden = golden_case(kTextCases, name);
    const std::vector<TokenId> ids = golden.at("ids").get<std::vector<TokenId>>();
    const std::vector<TokenId> best = golden.at("argmax").get<std::vector<TokenId>>();
    Session session(real_model(), {.context = 2048});
    std::size_t flips = 0;
    session.append_with_logits(ids, [&](int position, std::span<const float> logits) {
      flips += argmax(logits) != best[static_cast<std::size_t>(position)];
    });
    EXPECT_LE(flips, std::max<std::size_t>(2, ids.size() / 20)) << name;
    const std::vector<std::size_t> top =
        golden.at("last_top20_ids").get<std::vector<std::size_t>>();
    const std::vector<double> values = golden.at("last_top20_logits").get<std::vector<double>>();
    for (std::size_t i = 0; i < top.size(); ++i)
      EXPECT_NEAR(session.logits()[top[i]], values[i], 1.5) << name;
  }
}

TEST(Session, RefusesWhatDoesNotFitWithBothNumbers) {
  Session session(tiny_model(), {.context = 100});
  session.append(std::span(tiny_ids()).first(10));
  const std::uint64_t before = hash_bits(session.logits());
  const Error error = thrown_error([&] { session.append(std::span(tiny_ids()).first(91)); });
  EXPECT_EQ(error.code(), ErrorCode::kContext);
  EXPECT_TRUE(contains(error.what(), "91") && contains(error.what(), "100")) << error.what();
  EXPECT_EQ(session.position(), 10);
  EXPECT_EQ(hash_bits(session.logits()), before);
  session.append(std::span(tiny_ids()).first(90));
  EXPECT_EQ(session.position(), 100);
}

TEST(Session, RefusesIdsOutsideTheVocabulary) {
  Session session(tiny_model(), {.context = 64});
  for (TokenId bad : {-1, tiny_model().info().vocabulary, 1 << 30}) {
    const std::vector<TokenId> ids = {2, bad};
    EXPECT_EQ(thrown_error([&] { session.append(ids); }).code(), ErrorCode::kUsage);
    EXPECT_EQ(thrown_error([&] { hash_positions(session, ids); }).code(), ErrorCode::kUsage);
  }
  EXPECT_EQ(session.position(), 0);
  EXPECT_TRUE(session.logits().empty());
}

TEST(Session, RefusesOptionsOutOfRange) {
  for (const SessionOptions& options :
       {SessionOptions{.context = -1}, SessionOptions{.context = 64, .chunk = 0},
        SessionOptions{.context = 64, .threads = -1}}) {
    EXPECT_EQ(thrown_error([&] { const Session session(tiny_model(), options); }).code(),
              ErrorCode::kUsage);
  }
}

TEST(Session, CancelBetweenChunksKeepsWhatWasComputed) {
  const std::vector<TokenId>& ids = tiny_ids();
  Session whole(tiny_model(), {.context = 512});
  whole.append(ids);
  Session session(tiny_model(), {.context = 512, .chunk = 50});
  std::atomic<bool> cancel{false};
  std::vector<std::uint64_t> reported;
  const Error error = thrown_error([&] {
    session.append(
        ids,
        [&](std::uint64_t done, std::uint64_t total) {
          EXPECT_EQ(total, ids.size());
          reported.push_back(done);
          cancel = done >= 100;
        },
        &cancel);
  });
  EXPECT_EQ(error.code(), ErrorCode::kInterrupted);
  EXPECT_EQ(reported, (std::vector<std::uint64_t>{50, 100}));
  ASSERT_EQ(session.position(), 100);
  session.append(std::span(ids).subspan(100));
  EXPECT_EQ(hash_bits(session.logits()), hash_bits(whole.logits()));
}

// Whenever the cancel comes, also in the middle of a chunk whose rows have been written over older
// ones: what stays has its logits, and the rest goes on to the same bits.
TEST(Session, CancelWithinAChunkKeepsWholeChunks) {
  const std::vector<TokenId>& ids = tiny_ids();
  const auto all = std::span(ids);
  std::map<int, std::uint64_t> wanted;
  const auto bits_of = [&](int count) {
    const auto [found, first] = wanted.emplace(count, 0);
    if (first) {
      Session whole(tiny_model(), {.context = 512, .threads = 1});
      whole.append(all.first(static_cast<std::size_t>(count)));
      found->second = hash_bits(whole.logits());
    }
    return found->second;
  };
  constexpr int kChunk = 64;
  int within = 0;
  for (int microseconds = 0; microseconds < 20'000; microseconds += 97) {
    Session session(tiny_model(), {.context = 512, .chunk = kChunk, .threads = 2});
    std::atomic<bool> cancel{false};
    std::thread canceller([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
      cancel = true;
    });
    std::atomic<bool> ended_within{false};
    try {
      session.append(all, {}, &cancel);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInterrupted);
      ended_within = true;
    }
    canceller.join();
    const int position = session.position();
    ASSERT_TRUE(position % kChunk == 0 || position == static_cast<int>(ids.size()));
    if (ended_within && position > 0) ++within;
    if (position > 0 && microseconds % 2 == 0) {
      ASSERT_EQ(hash_bits(session.logits()), bits_of(position)) << position;
    }
    session.append(all.subspan(static_cast<std::size_t>(position)));
    if (position < static_cast<int>(ids.size())) {
      ASSERT_EQ(hash_bits(session.logits()), bits_of(static_cast<int>(ids.size()))) << position;
    }
  }
  EXPECT_GT(within, 0);
}

TEST(Session, ClearForgetsEverything) {
  Session session(tiny_model(), {.context = 512});
  session.append(std::span(tiny_ids()).first(100));
  const std::uint64_t expected = hash_bits(session.logits());
  session.append(std::span(tiny_ids()).subspan(100));
  session.clear();
  EXPECT_EQ(session.position(), 0);
  EXPECT_TRUE(session.logits().empty());
  session.append(std::span(tiny_ids()).first(100));
  EXPECT_EQ(hash_bits(session.logits()), expected);
}

TEST(Session, DefaultContextIsBounded) {
  const Session session(tiny_model());
  EXPECT_EQ(session.context(), 32768);  // Trained for 131,072.
}

TEST(Session, BudgetCoversWeightsAndSession) {
  const std::uint64_t weights =
      tiny_model().info().weight_bytes + tiny_model().info().vocabulary_bytes;
  const Session free(tiny_model(), {.context = 4096, .threads = 2});
  const std::uint64_t needed = weights + free.memory_bytes();
  EXPECT_GE(free.memory_bytes(), tiny_model().info().kv_bytes(4096));
  SessionOptions options{.context = 4096, .threads = 2, .memory_limit = needed};
  EXPECT_EQ(Session(tiny_model(), options).memory_bytes(), free.memory_bytes());
  options.memory_limit = needed - 1;
  const Error error = thrown_error([&] { const Session session(tiny_model(), options); });
  EXPECT_EQ(error.code(), ErrorCode::kMemory);
  EXPECT_TRUE(contains(error.what(), "needs") && contains(error.what(), "limit")) << error.what();
}

TEST(Session, RefusesAContextBeyondTheMachine) {
  const Error error =
      thrown_error([] { const Session session(tiny_model(), {.context = 1 << 28}); });
  EXPECT_EQ(error.code(), ErrorCode::kMemory);
  EXPECT_TRUE(contains(error.what(), "available")) << error.what();
}

TEST(Session, ManySessionsShareAModel) {
  Session first(tiny_model(), {.context = 128, .threads = 1});
  Session second(tiny_model(), {.context = 128, .threads = 1});
  const std::span<const TokenId> ids = tiny_ids();
  first.append(ids.first(20));
  second.append(ids.subspan(100, 20));
  const std::uint64_t before = hash_bits(first.logits());
  second.append(ids.first(20));
  EXPECT_EQ(hash_bits(first.logits()), before);
  Session moved = std::move(first);
  EXPECT_EQ(hash_bits(moved.logits()), before);
}

}  // namespace
}  // namespace lapidary::testing
