// Law 2 for answers that are drawn together: whatever is under way beside them, in whatever passes,
// and whatever was taken over from others, they are what each session draws alone.

#include "lapidary/scheduler.h"

#include <map>
#include <random>
#include <thread>

#include "test_data.h"
#include "vision_fixture.h"

namespace lapidary::testing {
namespace {

/// A text of `count` ids that begins with `shared` ids of a text that many have.
Prompt text_of(std::size_t shared, std::size_t count, unsigned seed) {
  std::mt19937 random(seed), common(1);
  std::uniform_int_distribution<TokenId> id(300, 1500);
  Prompt prompt{{2}, {}};
  for (std::size_t i = 0; i < shared; ++i) prompt.ids.push_back(id(common));
  for (std::size_t i = 0; i < count; ++i) prompt.ids.push_back(id(random));
  return prompt;
}

void add_picture(Prompt& prompt, std::size_t place, unsigned seed) {
  insert_picture(prompt, std::min(place, prompt.ids.size()), random_features(seed));
}

/// Short and long prompts, alone and with much in common (past the window, too), some with the same
/// or with other pictures, greedy and drawn.
std::vector<Request> mixed_requests(int count) {
  std::vector<Request> requests;
  for (int i = 0; i < count; ++i) {
    const auto seed = static_cast<unsigned>(i);
    const std::size_t shared[] = {0, 0, 30, 200, 200, 90};
    const std::size_t own[] = {1, 40, 5, 3, 70, 300};
    Request request{text_of(shared[i % 6], own[i % 6], seed / 2 + 7)};
    if (i % 11 == 3) add_picture(request.prompt, 20, seed % 3);
    if (i % 23 == 5) add_picture(request.prompt, request.prompt.ids.size(), 1);
    request.options.max_tokens = 1 + i % 14;
    request.options.sampling.temperature = i % 3 == 0 ? 0.0F : 1.0F;
    request.options.sampling.repeat_penalty = i % 7 == 0 ? 1.2F : 1.0F;
    request.options.sampling.seed = seed;
    requests.push_back(std::move(request));
  }
  return requests;
}

std::vector<std::vector<TokenId>> answers_alone(const std::vector<Request>& requests,
                                                KvType kv = KvType::kBf16) {
  Session session(vision_model(), {.context = 1024, .threads = 1, .kv = kv});
  std::vector<std::vector<TokenId>> answers;
  for (const Request& request : requests) {
    session.clear();
    session.append(request.prompt);
    answers.push_back(session.generate(request.options).ids);
  }
  return answers;
}

/// The ids of all answers by request; what was computed and taken over into `usage`.
std::vector<std::vector<TokenId>> run(Scheduler& scheduler, const std::vector<Request>& requests,
                                      Usage* usage = nullptr) {
  std::map<std::uint64_t, std::size_t> places;
  std::vector<std::vector<TokenId>> answers(requests.size());
  std::size_t next = 0, done = 0;
  while (done < requests.size()) {
    while (next < requests.size() && scheduler.waiting() < 2 * scheduler.parallel())
      places[scheduler.add(requests[next])] = next, ++next;
    for (Answer& answer : scheduler.step()) {
      EXPECT_FALSE(answer.error.has_value()) << answer.error->what();
      answers[places.at(answer.request)] = answer.completion.ids;
      if (usage != nullptr) {
        usage->prompt_tokens += answer.completion.usage.prompt_tokens;
        usage->cached_tokens += answer.completion.usage.cached_tokens;
      }
      ++done;
    }
  }
  EXPECT_TRUE(scheduler.idle());
  return answers;
}

class SchedulerBits : public ::testing::TestWithParam<KvType> {};
INSTANTIATE_TEST_SUITE_P(Kv, SchedulerBits, ::testing::Values(KvType::kBf16, KvType::kInt8));

TEST_P(SchedulerBits, AnswersAreThoseOfEverySessionAlone) {
  const std::vector<Request> requests = mixed_requests(50);
  const std::vector<std::vector<TokenId>> expected = answers_alone(requests, GetParam());
  for (const int threads : {1, 2}) {
    for (const int parallel : {1, 2, 7, 32}) {
      for (const int pass : {33, 512}) {
        for (const bool reuse : {false, true}) {
          const Engine engine(vision_model(), {.threads = threads,
                                               .pass = pass,
                                               .context = 1024,
                                               .kv = GetParam(),
                                               .kv_memory = std::uint64_t{16} << 20,
                                               .reuse = reuse});
          Scheduler scheduler(engine, {.parallel = parallel});
          Usage cold, warm;
          EXPECT_EQ(run(scheduler, requests, &cold), expected)
              << threads << " threads, " << parallel << " together, passes of " << pass;
          EXPECT_EQ(cold.cached_tokens > 0, reuse);
          EXPECT_EQ(run(scheduler, requests, &warm), expected) << "again";
          EXPECT_EQ(engine.stats().reused_tokens > 0, reuse);
        }
      }
    }
  }
}

// So little memory that what is kept is dropped again and again, and prompts have to wait.
TEST(Scheduler, LittleMemoryChangesNothing) {
  const std::vector<Request> requests = mixed_requests(60);
  const std::vector<std::vector<TokenId>> expected = answers_alone(requests);
  const Engine roomy(vision_model(), {.threads = 2, .context = 1024});
  for (const std::uint64_t kilobytes : {1600U, 2000U, 4000U}) {
    const Engine engine(vision_model(),
                        {.threads = 2, .pass = 64, .context = 1024, .kv_memory = kilobytes << 10});
    Scheduler scheduler(engine, {.parallel = 16});
    EXPECT_EQ(run(scheduler, requests), expected) << kilobytes << " KiB";
    EXPECT_LE(engine.stats().kv_used_bytes, kilobytes << 10);
  }
}

TEST(Scheduler, APrefixIsComputedOnce) {
  const Engine engine(vision_model(), {.threads = 2, .context = 1024});
  Scheduler scheduler(engine, {.parallel = 8});
  std::vector<Request> requests;
  for (unsigned i = 0; i < 20; ++i)
    requests.push_back({text_of(500, 10, 100 + i), {.max_tokens = 4}});
  Usage usage;
  run(scheduler, requests, &usage);
  // 501 ids in common; the first computes them, and the window of 64 positions before the place
  // where they part is kept.
  EXPECT_GE(usage.cached_tokens, 19 * 501);
  EXPECT_EQ(engine.stats().reused_tokens, static_cast<std::uint64_t>(usage.cached_tokens));
}

TEST(Scheduler, SeveralAnswersComeFromOnePrefill) {
  const Engine engine(vision_model(), {.threads = 2, .context = 1024});
  Scheduler scheduler(engine, {.parallel = 3});
  Request request{text_of(0, 300, 5), {.max_tokens = 8}, 7};
  request.options.sampling.seed = 40;
  scheduler.add(request);
  std::map<int, Completion> answers;
  while (!scheduler.idle()) {
    for (Answer& answer : scheduler.step()) answers[answer.index] = std::move(answer.completion);
  }
  ASSERT_EQ(answers.size(), 7U);
  Session session(vision_model(), {.context = 1024});
  for (const auto& [index, completion] : answers) {
    session.clear();
    session.append(request.prompt);
    GenerateOptions options = request.options;
    options.sampling.seed = 40 + static_cast<std::uint64_t>(index);
    EXPECT_EQ(completion.ids, session.generate(options).ids) << index;
    EXPECT_EQ(completion.usage.cached_tokens, index == 0 ? 0 : 300);
  }
  EXPECT_LE(engine.stats().computed_tokens, 301U + 6 + 7 * 8);
}

TEST(Scheduler, RefusesWhatCanNeverBeAnswered) {
  const Engine engine(vision_model(),
                      {.pass = 64, .context = 1024, .kv_memory = std::uint64_t{1600} << 10});
  Scheduler scheduler(engine);
  const auto refused = [&](Request request) {
    try {
      scheduler.add(std::move(request));
    } catch (const Error& error) {
      return error.code();
    }
    ADD_FAILURE() << "not refused";
    return ErrorCode::kFile;
  };
  EXPECT_EQ(refused({}), ErrorCode::kUsage);
  EXPECT_EQ(refused({{{2, 999999}, {}}}), ErrorCode::kUsage);
  EXPECT_EQ(refused({text_of(0, 2000, 1)}), ErrorCode::kContext);
  EXPECT_EQ(refused({text_of(0, 5, 1), {}, 0}), ErrorCode::kUsage);
  EXPECT_EQ(refused({text_of(0, 5, 1), {.max_tokens = -2}}), ErrorCode::kUsage);
  Prompt lacks = text_of(0, 5, 1);
  lacks.ids.push_back(vision_model().tokenizer().image_token());
  EXPECT_EQ(refused({lacks}), ErrorCode::kUsage);
  EXPECT_TRUE(scheduler.idle());
  EXPECT_THROW(Scheduler(engine, {.parallel = -1}), Error);
  EXPECT_THROW(Engine(vision_model(), {.kv_memory = 1000}), Error);
}

TEST(Scheduler, ACancelEndsOneAnswer) {
  const Engine engine(vision_model(), {.context = 1024});
  Scheduler scheduler(engine, {.parallel = 4});
  std::atomic<bool> cancel{false};
  const std::uint64_t cancelled =
      scheduler.add({text_of(0, 20, 1), {.max_tokens = 500, .cancel = &cancel}});
  const std::uint64_t other = scheduler.add({text_of(0, 20, 2), {.max_tokens = 30}});
  std::map<std::uint64_t, FinishReason> ends;
  for (int i = 0; !scheduler.idle(); ++i) {
    if (i == 5) cancel = true;
    for (const Answer& answer : scheduler.step())
      ends[answer.request] = answer.completion.finish_reason;
  }
  EXPECT_EQ(ends.at(cancelled), FinishReason::kCancelled);
  EXPECT_NE(ends.at(other), FinishReason::kCancelled);
}

TEST(Engine, SessionsShareOneAndKeepTheirBits) {
  const Engine engine(vision_model(), {.threads = 2, .context = 1024});
  const std::vector<Request> requests = mixed_requests(24);
  std::vector<Session> shared;
  for (std::size_t i = 0; i < requests.size(); ++i) shared.emplace_back(engine);
  // Every step of one between the steps of the others.
  for (std::size_t i = 0; i < requests.size(); ++i) shared[i].append(requests[i].prompt);
  for (std::size_t i = requests.size(); i-- > 0;) {
    Session alone(vision_model(), {.context = 1024});
    alone.append(requests[i].prompt);
    EXPECT_EQ(hash_bits(shared[i].logits()), hash_bits(alone.logits())) << i;
    GenerateOptions options = requests[i].options;
    EXPECT_EQ(shared[i].generate(options).ids, alone.generate(options).ids) << i;
    EXPECT_EQ(shared[i].draw({.seed = 3}), alone.draw({.seed = 3})) << i;
  }
}

TEST(Engine, SessionsOnSeveralThreadsTakeTurns) {
  const Engine engine(vision_model(), {.threads = 2, .context = 1024});
  const std::vector<Request> requests = mixed_requests(6);
  const std::vector<std::vector<TokenId>> expected = answers_alone(requests);
  std::vector<std::vector<TokenId>> got(requests.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 5; ++round) {
        Session session(engine);
        session.append(requests[i].prompt);
        got[i] = session.generate(requests[i].options).ids;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(got, expected);
}

TEST(Engine, SaysWhatItHasNoRoomFor) {
  const Engine engine(vision_model(),
                      {.pass = 64, .context = 1024, .kv_memory = std::uint64_t{3000} << 10});
  std::vector<Session> sessions;
  try {
    for (int i = 0; i < 100; ++i) sessions.emplace_back(engine);
    FAIL() << "all found room";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kMemory);
    EXPECT_NE(std::string(error.what()).find("MiB"), std::string::npos) << error.what();
  }
  sessions.pop_back();
  EXPECT_NO_THROW(sessions.emplace_back(engine)) << "what is given back can be had again";
  EXPECT_THROW(Session(engine, {.context = 2000}), Error);
  EXPECT_THROW(Session(engine, {.threads = 3}), Error);
}

TEST(Engine, EmptyOnesSaySo) {
  Engine engine;
  Scheduler scheduler;
  EXPECT_FALSE(engine);
  EXPECT_FALSE(scheduler);
  EXPECT_THROW(engine.stats(), Error);
  EXPECT_THROW(Session{engine}, Error);
  EXPECT_THROW(Scheduler{engine}, Error);
  EXPECT_THROW(scheduler.step(), Error);
  EXPECT_THROW(scheduler.waiting(), Error);
  engine = Engine(vision_model(), {.context = 64});
  scheduler = Scheduler(engine);
  const Engine moved = std::move(engine);
  EXPECT_TRUE(scheduler.idle());
  EXPECT_EQ(moved.context(), 64);
  EXPECT_THROW(Engine(vision_model(), {.pass = 0}), Error);
  EXPECT_THROW(Engine(vision_model(), {.pass = 1 << 30}), Error);
}

TEST(Engine, ACallbackCannotUseTheEngineThatItIsCalledFrom) {
  const Engine engine(vision_model(), {.context = 512});
  Session a(engine), b(engine);
  const std::vector<TokenId> ids{2, 400, 500};
  EXPECT_THROW(a.append_with_logits(ids, [&](int, std::span<const float>) { b.append(ids); }),
               Error);
  b.clear();
  b.append(ids);
  EXPECT_EQ(b.position(), 3);
}

}  // namespace
}  // namespace lapidary::testing
