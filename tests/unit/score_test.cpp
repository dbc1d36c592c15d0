// Scores are what the logits say: the bits of log softmax over append_with_logits, whatever else is
// scored beside them, in whatever passes, and with whatever memory.

#include "lapidary/score.h"

#include <atomic>
#include <cmath>
#include <limits>
#include <random>
#include <thread>
#include <utility>

#include "score_fixture.h"

namespace lapidary::testing {
namespace {

/// Of one token, of some, beyond the tiny model's window of 64, and beyond a page.
Continuations mixed_continuations() {
  Continuations all;
  unsigned seed = 100;
  for (const std::size_t size : {1U, 2U, 1U, 5U, 17U, 3U, 64U, 65U, 200U, 1U, 130U, 40U})
    all.push_back(random_ids(size, ++seed));
  all.push_back(all[3]);  // Twice the same.
  return all;
}

/// What drawing with temperature 0 gives, and the same but for its last token.
Continuations greedy_continuations(const Prompt& prompt) {
  Session session(vision_model(), {.context = 2048});
  session.append(prompt);
  std::vector<TokenId> ids =
      session.generate({.max_tokens = 4, .sampling = {.temperature = 0}}).ids;
  std::vector<TokenId> other = ids;
  other.back() = other.back() == 700 ? 701 : 700;
  return {std::move(ids), std::move(other)};
}

class ScoreBits : public ::testing::TestWithParam<KvType> {};
INSTANTIATE_TEST_SUITE_P(Kv, ScoreBits, ::testing::Values(KvType::kBf16, KvType::kInt8));

TEST_P(ScoreBits, AreThoseOfEachContinuationAlone) {
  for (const std::size_t length : {1U, 63U, 128U, 300U}) {
    const Prompt prompt{random_ids(length, 1), {}};
    Continuations all = mixed_continuations();
    for (std::vector<TokenId>& ids : greedy_continuations(prompt)) all.push_back(std::move(ids));
    const std::vector<Score> expected = scored_alone(prompt, all, GetParam());
    for (const auto& [threads, chunk] : {std::pair{1, 512}, {2, 7}, {2, 64}, {3, 130}}) {
      Session session(vision_model(),
                      {.context = 1024, .chunk = chunk, .threads = threads, .kv = GetParam()});
      session.append(prompt);
      const std::string where = std::to_string(length) + " tokens, " + std::to_string(threads) +
                                " threads, chunk " + std::to_string(chunk);
      expect_scores(session.score(all), expected, where);
      expect_scores(session.score(all), expected, where + ", again");
    }
  }
}

TEST(Score, TellsWhetherDrawingGivesTheSame) {
  const Prompt prompt{random_ids(90, 4), {}};
  Session session(vision_model(), {.context = 256});
  session.append(prompt);
  const std::vector<Score> scores = session.score(greedy_continuations(prompt));
  EXPECT_TRUE(scores[0].greedy);
  EXPECT_FALSE(scores[1].greedy);
  EXPECT_GT(scores[0].tokens.back(), scores[1].tokens.back());
}

TEST(Score, BehindAPictureAcrossTheWindow) {
  const Prompt prompt = with_picture(60, 9);
  const Continuations all = mixed_continuations();
  const std::vector<Score> expected = scored_alone(prompt, all);
  for (const int chunk : {16, 512}) {
    Session session(vision_model(), {.context = 1024, .chunk = chunk});
    session.append(prompt);
    expect_scores(session.score(all), expected, "chunk " + std::to_string(chunk));
  }
}

TEST(Score, OrderAndCompanyChangeNothing) {
  const Prompt prompt{random_ids(150, 2), {}};
  const Continuations all = mixed_continuations();
  const std::vector<Score> expected = scored_alone(prompt, all);
  Session session(vision_model(), {.context = 1024});
  session.append(prompt);
  for (std::size_t i = 0; i < all.size(); ++i)
    expect_scores(session.score(std::span(all).subspan(i, 1)), {expected[i]}, "alone");
  Continuations reversed(all.rbegin(), all.rend());
  expect_scores(session.score(reversed), {expected.rbegin(), expected.rend()}, "reversed");
}

TEST(Score, MoreThanOnePassAndManyOfOneToken) {
  const Prompt prompt{random_ids(100, 5), {}};
  Continuations all;
  for (unsigned i = 0; i < 300; ++i) all.push_back(random_ids(1 + i % 4, i));
  const std::vector<Score> expected = scored_alone(prompt, all);
  Session session(vision_model(), {.context = 512, .chunk = 32});
  session.append(prompt);
  expect_scores(session.score(all), expected, "300");
}

/// Whether `session` goes on as one does that was never asked for scores: by ids, by the bits of
/// its logits, and by what it draws and appends from there.
void expect_as_before(Session& session, Session& untouched, const std::string& where) {
  ASSERT_EQ(session.position(), untouched.position()) << where;
  EXPECT_TRUE(std::ranges::equal(session.ids(), untouched.ids())) << where;
  EXPECT_EQ(hash_bits(session.logits()), hash_bits(untouched.logits())) << where;
  if (session.context() - session.position() < 80) return;
  const GenerateOptions options{.max_tokens = 6, .sampling = {.seed = 3}};
  EXPECT_EQ(session.generate(options).ids, untouched.generate(options).ids) << where;
  const std::vector<TokenId> more = random_ids(70, 8);
  EXPECT_EQ(hash_positions(session, more), hash_positions(untouched, more)) << where;
}

TEST(Score, LeavesTheSessionAsItWas) {
  for (const std::size_t length : {1U, 100U, 128U, 333U}) {
    for (const int chunk : {16, 512}) {
      for (const bool reuse : {false, true}) {
        const SessionOptions options{.context = 1024, .chunk = chunk, .reuse = reuse};
        Session session(vision_model(), options), untouched(vision_model(), options);
        const Prompt prompt{random_ids(length, 3), {}};
        session.append(prompt);
        untouched.append(prompt);
        session.score(mixed_continuations());
        const std::string where = std::to_string(length) + " tokens, chunk " +
                                  std::to_string(chunk) + (reuse ? ", reuse" : "");
        expect_as_before(session, untouched, where);
        session.score(mixed_continuations());
        expect_as_before(session, untouched, where + ", behind drawn tokens");
      }
    }
  }
}

// Tokens that were drawn, and guesses that were computed behind them, are no hindrance.
TEST(Score, BehindDrawnTokensAndGuesses) {
  Prompt prompt{random_ids(20, 6), {}};
  const std::vector<TokenId> once = prompt.ids;
  for (int i = 0; i < 5; ++i) prompt.ids.insert(prompt.ids.end(), once.begin(), once.end());
  const GenerateOptions guessing{
      .max_tokens = 3, .sampling = {.temperature = 0}, .speculation = Speculation::kAlways};
  for (const int context : {128, 160, 1024}) {
    Session session(vision_model(), {.context = context}),
        untouched(vision_model(), {.context = context});
    for (Session* each : {&session, &untouched}) {
      each->append(prompt);
      each->generate(guessing);
    }
    const Continuations some{random_ids(2, 1), random_ids(5, 2), random_ids(3, 3)};
    const Prompt whole{{session.ids().begin(), session.ids().end()}, {}};
    expect_scores(session.score(some), scored_alone(whole, some), std::to_string(context));
    EXPECT_EQ(session.generate(guessing).ids, untouched.generate(guessing).ids);
    expect_as_before(session, untouched, std::to_string(context));
  }
}

// A session's pages are just those of its context. However full that is, what fits into a chunk is
// scored; a longer continuation is, or is refused before anything is computed.
TEST(Score, WithNoMemoryBesideTheContext) {
  const Continuations some{random_ids(3, 1), random_ids(9, 2), random_ids(1, 3), random_ids(9, 4)};
  for (const bool reuse : {false, true}) {
    for (const int context : {10, 128, 150, 256, 300, 700}) {
      for (const int room : {9, 20, 131}) {
        if (room >= context) continue;
        const SessionOptions options{.context = context, .chunk = 16, .reuse = reuse};
        const Prompt prompt{random_ids(static_cast<std::size_t>(context - room), 7), {}};
        Session session(vision_model(), options), untouched(vision_model(), options);
        session.append(prompt);
        untouched.append(prompt);
        const std::string where = std::to_string(context) + ", room " + std::to_string(room);
        expect_scores(session.score(some), scored_alone(prompt, some), where);
        expect_as_before(session, untouched, where);
      }
    }
  }
}

TEST(Score, ALongOneIsScoredOrRefusedAtOnce) {
  int scored = 0, refused = 0;
  for (const int context : {256, 400, 600, 1024}) {
    for (const int room : {40, 129, 200}) {
      const SessionOptions options{.context = context, .chunk = 16, .snapshot_memory = 0};
      const Prompt prompt{random_ids(static_cast<std::size_t>(context - room), 7), {}};
      const Continuations one{random_ids(static_cast<std::size_t>(room), 4)};
      Session session(vision_model(), options), untouched(vision_model(), options);
      session.append(prompt);
      untouched.append(prompt);
      try {
        expect_scores(session.score(one), scored_alone(prompt, one), std::to_string(context));
        ++scored;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kMemory);
        EXPECT_TRUE(contains(error.what(), "more than 16 tokens needs")) << error.what();
        ++refused;
      }
      expect_as_before(session, untouched, std::to_string(context));
    }
  }
  EXPECT_GT(scored, 0);
  EXPECT_GT(refused, 0);
}

TEST(Score, OnASharedEngineWithLittleMemory) {
  const Prompt prompt{random_ids(400, 3), {}};
  const Continuations all = mixed_continuations();
  const std::vector<Score> expected = scored_alone(prompt, all);
  const Engine roomy(vision_model(), {.threads = 2, .pass = 64, .context = 700});
  for (const std::uint64_t kilobytes : {1600U, 2000U, 3000U, 8000U}) {
    const Engine engine(vision_model(),
                        {.threads = 2, .pass = 64, .context = 700, .kv_memory = kilobytes << 10});
    std::vector<Session> sessions;
    for (int i = 0; i < 2; ++i) {
      try {
        sessions.emplace_back(engine, SessionOptions{.context = 700});
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kMemory);
      }
    }
    ASSERT_FALSE(sessions.empty()) << kilobytes;
    for (Session& session : sessions) session.append(prompt);
    for (Session& session : sessions) {
      Session untouched(roomy, {.context = 700});
      untouched.append(prompt);
      try {
        expect_scores(session.score(all), expected, std::to_string(kilobytes));
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kMemory);
        EXPECT_LT(kilobytes, 8000U);
        const Continuations shorter{all[0], all[3], all[6]};
        expect_scores(session.score(shorter), {expected[0], expected[3], expected[6]}, "shorter");
      }
      expect_as_before(session, untouched, std::to_string(kilobytes));
    }
  }
}

TEST(Score, CancelLeavesTheSessionAsItWas) {
  const Prompt prompt{random_ids(200, 3), {}};
  const SessionOptions options{.context = 1024, .chunk = 16};
  Session session(vision_model(), options), untouched(vision_model(), options);
  session.append(prompt);
  untouched.append(prompt);
  std::atomic<bool> cancel{true};
  const Error at_once = thrown_error([&] { session.score(mixed_continuations(), &cancel); });
  EXPECT_EQ(at_once.code(), ErrorCode::kInterrupted);
  EXPECT_STREQ(at_once.what(), "interrupted while scoring");
  Continuations many;
  for (unsigned i = 0; i < 2000; ++i) many.push_back(random_ids(20, i));
  int interrupted = 0;
  for (int i = 0; i < 5; ++i) {
    cancel = false;
    std::thread later([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(5 * i + 1));
      cancel = true;
    });
    try {
      session.score(many, &cancel);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInterrupted);
      ++interrupted;
    }
    later.join();
  }
  EXPECT_GT(interrupted, 0);
  const Continuations all = mixed_continuations();
  expect_scores(session.score(all), scored_alone(prompt, all), "after a cancel");
  expect_as_before(session, untouched, "after a cancel");
}

TEST(Score, RefusesWhatCannotBeScored) {
  Session session(vision_model(), {.context = 100});
  EXPECT_EQ(thrown_error([&] { session.score(Continuations{{5}}); }).code(), ErrorCode::kUsage);
  session.append(random_ids(90, 1));
  const auto refused = [&](const Continuations& all, ErrorCode code, const char* part) {
    const Error error = thrown_error([&] { session.score(all); });
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_TRUE(contains(error.what(), part)) << error.what();
  };
  refused({}, ErrorCode::kUsage, "no continuation");
  refused({{5}, {}}, ErrorCode::kUsage, "continuation 1 has no token");
  refused({{-1}}, ErrorCode::kUsage, "outside the vocabulary");
  refused({{vision_model().info().vocabulary}}, ErrorCode::kUsage, "outside the vocabulary");
  refused({random_ids(11, 1)}, ErrorCode::kContext,
          "11 tokens, but the context holds 100, of which 90");
  refused(Continuations(4097, {5}), ErrorCode::kUsage, "at most 4096");
  EXPECT_EQ(session.score(Continuations{random_ids(10, 1)}).front().tokens.size(), 10U);
}

// Of any number of logits, near and far below the largest, as the standard library has it.
TEST(LogProbability, IsTheLogarithmOfTheSum) {
  std::mt19937 random(3);
  for (const std::size_t count : {1U, 2U, 63U, 64U, 65U, 1000U, 5000U}) {
    for (const float spread : {0.001F, 1.0F, 30.0F, 2000.0F}) {
      std::normal_distribution<float> normal(0, spread);
      std::vector<float> logits(count);
      for (float& logit : logits) logit = normal(random);
      const double largest = *std::max_element(logits.begin(), logits.end());
      double sum = 0;
      for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
      for (const std::size_t id : {std::size_t{0}, count / 2, count - 1}) {
        const double expected = logits[id] - largest - std::log(sum);
        EXPECT_NEAR(log_probability(logits, static_cast<TokenId>(id)).logprob, expected,
                    1e-14 * (4 + std::abs(expected)))
            << count << " logits, spread " << spread;
      }
    }
  }
}

TEST(LogProbability, OfLogitsAsTheyMayBe) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> logits{1, 3, kNan, 3, -kInf, 2};
  const double sum = std::exp(-2.0) + 1 + 1 + std::exp(-1.0);
  const TokenLogprob one = log_probability(logits, 0, 3);
  EXPECT_DOUBLE_EQ(one.logprob, -2 - std::log(sum));
  ASSERT_EQ(one.best.size(), 3U);
  EXPECT_EQ(one.best[0].id, 1);
  EXPECT_EQ(one.best[1].id, 3);
  EXPECT_EQ(one.best[2].id, 5);
  EXPECT_DOUBLE_EQ(one.best[2].logprob, -1 - std::log(sum));
  EXPECT_EQ(log_probability(logits, 2).logprob, -std::numeric_limits<double>::infinity());
  EXPECT_EQ(log_probability(logits, 4).logprob, -std::numeric_limits<double>::infinity());
  EXPECT_EQ(log_probability(logits, 4, 20).best.size(), logits.size());
  const std::vector<float> infinite{kInf, 1, kInf};
  EXPECT_DOUBLE_EQ(log_probability(infinite, 2).logprob, -std::log(2.0));
  EXPECT_EQ(log_probability(infinite, 1).logprob, -std::numeric_limits<double>::infinity());
  const std::vector<float> none{kNan, -kInf};
  EXPECT_EQ(thrown_error([&] { log_probability(none, 0); }).code(), ErrorCode::kFailed);
  for (const TokenId id : {-1, 6})
    EXPECT_EQ(thrown_error([&] { log_probability(logits, id); }).code(), ErrorCode::kUsage);
  for (const int best : {-1, 21})
    EXPECT_EQ(thrown_error([&] { log_probability(logits, 0, best); }).code(), ErrorCode::kUsage);
}

// The tokens of a text behind its beginning, against those of the fp32 reference: each as near as
// logits are (0.06 for the tiny model), and their sums as near as so many of them.
TEST(ScoreGolden, TinyTextAgreesWithTheReference) {
  const std::vector<double> nll =
      golden_case("vision/vision.jsonl", "text_only").at("nll").get<std::vector<double>>();
  const std::vector<TokenId>& ids = tiny_ids();
  for (const std::size_t prompt : {1U, 40U, 100U, 150U}) {
    Session session(tiny_model(), {.context = 512});
    session.append(std::span(ids).first(prompt));
    Continuations ends;
    for (const std::size_t size : {1U, 4U, 30U}) {
      const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(prompt);
      ends.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(size));
    }
    const std::vector<Score> scores = session.score(ends);
    for (const Score& score : scores) {
      double sum = 0;
      for (std::size_t i = 0; i < score.tokens.size(); ++i) {
        EXPECT_NEAR(score.tokens[i], -nll[prompt + i - 1], 0.06) << prompt << " + " << i;
        sum -= nll[prompt + i - 1];
      }
      EXPECT_NEAR(score.sum, sum, 0.06 * std::sqrt(static_cast<double>(score.tokens.size())));
    }
  }
}

// The same of the real model, whose logits may be 1.5 from the reference's on any id, as
// SessionGolden has it; the mean of many is much nearer.
TEST(ScoreGolden, RealTextsAgreeWithTheReference) {
  if (real_model_path() == nullptr) GTEST_SKIP() << "LAPIDARY_TEST_MODEL is not set";
  for (const char* name : {"capital", "count", "code", "fr", "json", "botchan_700"}) {
    const nlohmann::json golden = golden_case("gemma3-270m/text.jsonl", name);
    const std::vector<TokenId> ids = golden.at("ids").get<std::vector<TokenId>>();
    const std::vector<double> nll = golden.at("nll").get<std::vector<double>>();
    Session session(real_model(), {.context = 1024});
    const std::size_t prompt = ids.size() / 2;
    session.append(std::span(ids).first(prompt));
    const Continuations one{{ids.begin() + static_cast<std::ptrdiff_t>(prompt), ids.end()}};
    const Score score = session.score(one).front();
    double sum = 0, worst = 0;
    for (std::size_t i = 0; i < score.tokens.size(); ++i) {
      worst = std::max(worst, std::abs(score.tokens[i] + nll[prompt + i - 1]));
      sum -= nll[prompt + i - 1];
    }
    EXPECT_LT(worst, 1.5) << name;
    EXPECT_NEAR(score.sum, sum, 0.15 * std::sqrt(static_cast<double>(score.tokens.size()))) << name;
  }
}

/// What is drawn is the same with and without log-probabilities, and these are the logits' own.
TEST(GenerateLogprobs, TellWhatWasDrawn) {
  const Prompt prompt{random_ids(120, 2), {}};
  for (const Speculation speculation : {Speculation::kOff, Speculation::kAlways}) {
    for (const float temperature : {0.0F, 1.0F}) {
      GenerateOptions options{.max_tokens = 12, .speculation = speculation};
      options.sampling.temperature = temperature;
      options.sampling.repeat_penalty = 1.3F;
      options.sampling.seed = 5;
      Session plain(vision_model(), {.context = 512}), told(vision_model(), {.context = 512});
      plain.append(prompt);
      told.append(prompt);
      const Completion expected = plain.generate(options);
      EXPECT_TRUE(expected.logprobs.empty());
      options.logprobs = 3;
      const Completion got = told.generate(options);
      EXPECT_EQ(got.ids, expected.ids);
      ASSERT_EQ(got.logprobs.size(), got.ids.size());
      Session again(vision_model(), {.context = 512});
      again.append(prompt);
      for (std::size_t i = 0; i < got.ids.size(); ++i) {
        const TokenLogprob want = log_probability(again.logits(), got.ids[i], 3);
        EXPECT_EQ(got.logprobs[i].id, want.id);
        EXPECT_EQ(got.logprobs[i].logprob, want.logprob);
        ASSERT_EQ(got.logprobs[i].best.size(), 3U);
        for (std::size_t k = 0; k < 3; ++k) {
          EXPECT_EQ(got.logprobs[i].best[k].id, want.best[k].id);
          EXPECT_EQ(got.logprobs[i].best[k].logprob, want.best[k].logprob);
        }
        again.append(std::span(got.ids).subspan(i, 1));
      }
    }
  }
  Session session(vision_model(), {.context = 512});
  session.append(prompt);
  for (const int bad : {-2, 21}) {
    EXPECT_EQ(thrown_error([&] { session.generate({.logprobs = bad}); }).code(), ErrorCode::kUsage);
  }
}

}  // namespace
}  // namespace lapidary::testing
