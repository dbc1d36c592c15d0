// Scores and log-probabilities of a scheduler have the bits of a session's own, whatever is under
// way beside them.

#include <atomic>
#include <cstdint>
#include <map>

#include "score_fixture.h"

namespace lapidary::testing {
namespace {

/// The text that prompts have in common, and a tail of their own.
Prompt prompt_of(std::size_t shared, std::size_t own, unsigned seed) {
  Prompt prompt{random_ids(shared, 1), {}};
  const std::vector<TokenId> tail = random_ids(own, seed);
  prompt.ids.insert(prompt.ids.end(), tail.begin(), tail.end());
  return prompt;
}

/// Some to score, some to answer, with log-probabilities and without, and some that echo.
std::vector<Request> mixed_requests() {
  std::vector<Request> requests;
  for (unsigned i = 0; i < 24; ++i) {
    Request request;
    request.prompt = i % 12 == 4 ? with_picture(30, i) : prompt_of(i % 3 * 90, 1 + i * 5, i + 50);
    request.options.max_tokens = static_cast<int>(i % 5);
    request.options.sampling.seed = i;
    if (i % 4 == 0) {
      for (unsigned k = 0; k < 1 + i / 4; ++k)
        request.choices.push_back(random_ids(1 + (k * 7 + i) % 40, k));
    } else if (i % 4 == 1) {
      request.echo = true;
      request.options.logprobs = static_cast<int>(i % 3);
    } else if (i % 4 == 2) {
      request.options.logprobs = 2;
    }
    if (i % 8 == 5) request.answers = 2;
    requests.push_back(std::move(request));
  }
  Request pictured{with_picture(20, 77)};
  pictured.options.max_tokens = 1;
  pictured.echo = true;
  requests.push_back(std::move(pictured));
  return requests;
}

void expect_equal(const TokenLogprob& got, const TokenLogprob& want, const std::string& where) {
  EXPECT_EQ(got.id, want.id) << where;
  EXPECT_EQ(got.logprob, want.logprob) << where;
  ASSERT_EQ(got.best.size(), want.best.size()) << where;
  for (std::size_t i = 0; i < got.best.size(); ++i) {
    EXPECT_EQ(got.best[i].id, want.best[i].id) << where;
    EXPECT_EQ(got.best[i].logprob, want.best[i].logprob) << where;
  }
}

Answer answered_alone(const Request& request, int index) {
  Answer answer;
  if (!request.choices.empty()) {
    answer.scores = scored_alone(request.prompt, request.choices);
    return answer;
  }
  Session session(vision_model(), {.context = 1024, .threads = 1});
  const std::vector<TokenId>& ids = request.prompt.ids;
  if (request.echo && index == 0) {
    answer.prompt.resize(ids.size());
    session.append_with_logits(request.prompt, [&](int position, std::span<const float> logits) {
      const auto next = static_cast<std::size_t>(position) + 1;
      if (next < ids.size() && ids[next] != vision_model().tokenizer().image_token())
        answer.prompt[next] =
            log_probability(logits, ids[next], std::max(0, request.options.logprobs));
    });
  } else {
    session.append(request.prompt);
  }
  GenerateOptions options = request.options;
  options.sampling.seed += static_cast<std::uint64_t>(index);
  answer.completion = session.generate(options);
  return answer;
}

void expect_equal(const Answer& got, const Answer& want, const std::string& where) {
  ASSERT_FALSE(got.error.has_value()) << where << ": " << got.error->what();
  expect_scores(got.scores, want.scores, where);
  EXPECT_EQ(got.completion.ids, want.completion.ids) << where;
  ASSERT_EQ(got.completion.logprobs.size(), want.completion.logprobs.size()) << where;
  for (std::size_t i = 0; i < got.completion.logprobs.size(); ++i)
    expect_equal(got.completion.logprobs[i], want.completion.logprobs[i], where);
  ASSERT_EQ(got.prompt.size(), want.prompt.size()) << where;
  for (std::size_t i = 0; i < got.prompt.size(); ++i) {
    ASSERT_EQ(got.prompt[i].has_value(), want.prompt[i].has_value()) << where << ", token " << i;
    if (got.prompt[i]) expect_equal(*got.prompt[i], *want.prompt[i], where);
  }
}

/// All answers, by request and index.
std::map<std::pair<std::uint64_t, int>, Answer> run(Scheduler& scheduler,
                                                    const std::vector<Request>& requests) {
  const std::uint64_t first = scheduler.add(requests.front());
  for (std::size_t i = 1; i < requests.size(); ++i) scheduler.add(requests[i]);
  std::map<std::pair<std::uint64_t, int>, Answer> answers;
  while (!scheduler.idle()) {
    for (Answer& answer : scheduler.step())
      answers[{answer.request - first, answer.index}] = std::move(answer);
  }
  return answers;
}

TEST(SchedulerScores, AreThoseOfASession) {
  const std::vector<Request> requests = mixed_requests();
  std::map<std::pair<std::uint64_t, int>, Answer> expected;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    for (int index = 0; index < requests[i].answers; ++index)
      expected[{i, index}] = answered_alone(requests[i], index);
  }
  // The last has room for one long prompt and little beside it.
  for (const auto& [parallel, pass, kilobytes] :
       {std::tuple{1, 64, 16000U}, {3, 512, 16000U}, {16, 33, 16000U}, {16, 64, 2200U}}) {
    const Engine engine(
        vision_model(),
        {.threads = 2, .pass = pass, .context = 600, .kv_memory = std::uint64_t{kilobytes} << 10});
    Scheduler scheduler(engine, {.parallel = parallel});
    for (const char* round : {"cold", "warm"}) {
      const auto answers = run(scheduler, requests);
      ASSERT_EQ(answers.size(), expected.size());
      for (const auto& [place, answer] : answers) {
        expect_equal(answer, expected.at(place),
                     "request " + std::to_string(place.first) + ", " + std::to_string(parallel) +
                         " together, passes of " + std::to_string(pass) + ", " + round);
      }
    }
  }
}

TEST(SchedulerScores, ChoicesComeFromOnePrefill) {
  const Engine engine(vision_model(), {.threads = 2, .context = 600});
  Scheduler scheduler(engine);
  Request request{prompt_of(0, 300, 5)};
  for (unsigned i = 0; i < 4; ++i) request.choices.push_back(random_ids(4, i));
  scheduler.add(std::move(request));
  std::vector<Answer> answers;
  while (!scheduler.idle()) {
    for (Answer& answer : scheduler.step()) answers.push_back(std::move(answer));
  }
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_EQ(answers[0].scores.size(), 4U);
  EXPECT_EQ(answers[0].completion.usage.prompt_tokens, 300);
  // All but the last token of each.
  EXPECT_EQ(engine.stats().computed_tokens, 300U + 4U * 3U);
  EXPECT_EQ(engine.stats().passes, 2U);
}

TEST(SchedulerScores, ACancelEndsAScoring) {
  const Engine engine(vision_model(), {.threads = 2, .pass = 64, .context = 600});
  Scheduler scheduler(engine);
  std::atomic<bool> cancel{false};
  Request request{prompt_of(0, 60, 5)};
  for (unsigned i = 0; i < 40; ++i) request.choices.push_back(random_ids(40, i));
  request.options.cancel = &cancel;
  scheduler.add(request);
  std::vector<Answer> answers = scheduler.step();
  EXPECT_TRUE(answers.empty());
  cancel = true;
  while (!scheduler.idle()) answers = scheduler.step();
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_EQ(answers[0].completion.finish_reason, FinishReason::kCancelled);
  EXPECT_TRUE(answers[0].scores.empty());
  EXPECT_EQ(engine.stats().kv_used_bytes, engine.stats().kv_kept_bytes);
}

TEST(SchedulerScores, RefusesWhatCannotBe) {
  const Engine engine(vision_model(),
                      {.pass = 16, .context = 600, .kv_memory = std::uint64_t{1700} << 10});
  Scheduler scheduler(engine);
  const auto refused = [&](const Request& request, ErrorCode code) {
    const Error error = thrown_error([&] { scheduler.add(request); });
    EXPECT_EQ(error.code(), code) << error.what();
  };
  Request request{prompt_of(0, 400, 5)};
  request.choices = {{5}, {}};
  refused(request, ErrorCode::kUsage);
  request.choices = {{5}};
  request.answers = 2;
  refused(request, ErrorCode::kUsage);
  request.answers = 1;
  request.echo = true;
  refused(request, ErrorCode::kUsage);
  request.echo = false;
  request.options.logprobs = 21;
  refused(request, ErrorCode::kUsage);
  request.options.logprobs = -1;
  request.choices = {random_ids(201, 1)};
  refused(request, ErrorCode::kContext);
  request.choices = {random_ids(200, 1)};
  refused(request, ErrorCode::kMemory);
  EXPECT_TRUE(scheduler.idle());
}

}  // namespace
}  // namespace lapidary::testing
