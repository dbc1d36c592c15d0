// Law 2 for prefixes on disk: whatever is there, of whatever text, what is computed behind it has
// the bits of a fresh prefill.

#include <optional>
#include <thread>

#include "prefix_fixture.h"
#include "runtime/prefix_names.h"

namespace lapidary::testing {
namespace {

class PrefixBits : public PrefixFolders, public ::testing::WithParamInterface<KvType> {};
INSTANTIATE_TEST_SUITE_P(Kv, PrefixBits, ::testing::Values(KvType::kBf16, KvType::kInt8));

TEST_P(PrefixBits, ProcessesThatAskAboutOneText) {
  const SessionOptions with = options(GetParam());
  for (unsigned question = 0; question < 5; ++question) {
    const Prompt prompt = text_from(2300, 1, 20 + question, question);
    const Reading reading = read_prompt(prompt, with);
    EXPECT_TRUE(reading.same_bits(read_fresh(prompt, with))) << question;
    EXPECT_EQ(reading.stats.failures, 0) << reading.stats.problem;
    // The second one finds a place not far behind; it parts from the first at 2300, and writes that
    // place where it lies 64 ids behind the other.
    if (question == 0) {
      EXPECT_EQ(reading.cached, 0);
    }
    if (question > 0) {
      EXPECT_GE(reading.cached, 2320 - 256);
    }
    EXPECT_EQ(reading.stats.read_tokens, static_cast<std::uint64_t>(reading.cached));
  }
  const Prompt again = text_from(2300, 1, 22, 2);
  EXPECT_GE(read_prompt(again, with).cached, 2300 - 64);
}

TEST_P(PrefixBits, WhatPartsFromATextIsWrittenThere) {
  const SessionOptions with = options(GetParam());
  read_prompt(text_from(1500, 1, 700, 0), with);
  const Reading second = read_prompt(text_from(1500, 1, 700, 1), with);
  EXPECT_LT(second.cached, 1500);
  const Prompt third = text_from(1500, 1, 30, 2);
  const Reading reading = read_prompt(third, with);
  EXPECT_EQ(reading.cached, 1500);
  EXPECT_TRUE(reading.same_bits(read_fresh(third, with)));
}

TEST_P(PrefixBits, RandomTextsWithPictures) {
  std::mt19937 random(GetParam() == KvType::kInt8 ? 1 : 2);
  const auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
  const SessionOptions with = options(GetParam());
  std::uint64_t taken = 0;
  for (int i = 0; i < 60; ++i) {
    Prompt prompt = text_from(20 + below(1400), below(2), 1 + below(300), below(3));
    // At a few places, so that texts share some: across windows, pages and the end of a segment.
    constexpr std::size_t kPlaces[] = {1, 60, 120, 1000, 1023};
    const std::size_t place = kPlaces[below(5)];
    if (below(3) > 0 && place < prompt.ids.size())
      insert_picture(prompt, place, random_features(below(2)));
    if (below(8) == 0) insert_picture(prompt, prompt.ids.size(), random_features(1U));
    const Reading reading = read_prompt(prompt, with);
    ASSERT_TRUE(reading.same_bits(read_fresh(prompt, with))) << i << ": " << prompt.ids.size();
    ASSERT_EQ(reading.stats.damaged_files, 0);
    taken += reading.stats.read_tokens;
  }
  EXPECT_GT(taken, 5000);
}

TEST_P(PrefixBits, ASessionThatGoesOn) {
  Session fresh(vision_model(), {.context = 4096, .threads = 1, .kv = GetParam()});
  for (int round = 0; round < 3; ++round) {
    Session session(vision_model(), options(GetParam()));
    fresh.clear();
    for (unsigned turn = 0; turn < 6; ++turn) {
      const Prompt next = text_from(1, 1, 100 + 150 * turn, turn);
      for (Session* one : {&session, &fresh}) one->append(next);
      EXPECT_EQ(hash_bits(session.logits()), hash_bits(fresh.logits())) << round << " " << turn;
      if (turn == 3) {
        for (Session* one : {&session, &fresh}) one->rewind(300);
      }
    }
    if (round > 0) {
      EXPECT_GT(session.prefix_cache().read_tokens, 500);
    }
  }
}

TEST_F(PrefixFolders, EveryKindOfKeysAndValuesIsOnItsOwn) {
  const Prompt prompt = text_from(700, 1, 5, 0);
  read_prompt(prompt, options(KvType::kBf16));
  EXPECT_EQ(read_prompt(prompt, options(KvType::kInt8)).cached, 0);
  EXPECT_GT(read_prompt(prompt, options(KvType::kInt8)).cached, 0);
  EXPECT_GT(read_prompt(prompt, options(KvType::kBf16)).cached, 0);
}

std::vector<Request> mixed_requests(unsigned count) {
  std::vector<Request> requests;
  for (unsigned i = 0; i < count; ++i) {
    const std::size_t shared[] = {1, 90, 1100, 1100, 400};
    Request request{text_from(shared[i % 5], i % 2, 1 + i * 37 % 400, i)};
    if (i % 7 == 3) insert_picture(request.prompt, 1, random_features(i % 2));
    request.options.max_tokens = 1 + static_cast<int>(i % 9);
    request.options.sampling.seed = i;
    requests.push_back(std::move(request));
  }
  return requests;
}

std::vector<std::vector<TokenId>> answers_of(const Engine& engine,
                                             const std::vector<Request>& requests, int parallel) {
  Scheduler scheduler(engine, {.parallel = parallel});
  std::vector<std::vector<TokenId>> answers(requests.size());
  for (const Request& request : requests) scheduler.add(request);
  while (!scheduler.idle()) {
    for (Answer& answer : scheduler.step()) {
      EXPECT_FALSE(answer.error.has_value()) << answer.error->what();
      answers[answer.request] = answer.completion.ids;
    }
  }
  return answers;
}

TEST_P(PrefixBits, SchedulersOfSeveralEnginesOnOneFolder) {
  const std::vector<Request> requests = mixed_requests(30);
  EngineOptions wanted{
      .threads = 1, .context = 2048, .kv = GetParam(), .kv_memory = std::uint64_t{24} << 20};
  const auto expected = answers_of(Engine(vision_model(), wanted), requests, 8);
  wanted.prefix_cache = cache();
  for (const bool reuse : {true, false}) {
    for (const int parallel : {1, 8}) {
      wanted.reuse = reuse;
      const Engine engine(vision_model(), wanted), other(vision_model(), wanted);
      EXPECT_EQ(answers_of(engine, requests, parallel), expected);
      EXPECT_EQ(answers_of(other, requests, 3), expected);
      EXPECT_GT(other.prefix_cache().read_tokens, 1000);
      EXPECT_EQ(other.prefix_cache().failures, 0) << other.prefix_cache().problem;
    }
  }
}

// What is being written is let go of by nobody: other threads must have their pages all the same.
TEST_F(PrefixFolders, SessionsOfATightEngineOnSeveralThreads) {
  std::vector<Prompt> prompts;
  std::vector<Reading> expected;
  for (unsigned i = 0; i < 4; ++i) {
    prompts.push_back(text_from(700, i % 2, 150 + i, i));
    expected.push_back(read_fresh(prompts.back(), options()));
  }
  // Room for two contexts and what a pass computes, and hardly more.
  const EngineOptions tight{
      .threads = 1, .pass = 256, .context = 900, .kv_memory = 1 << 20, .prefix_cache = cache()};
  EngineOptions enough = tight;
  std::optional<Engine> engine;
  while (!engine) {
    enough.kv_memory += 64 << 10;
    try {
      Engine tried(vision_model(), enough);
      const Session one(tried, {.snapshot_memory = 0}), two(tried, {.snapshot_memory = 0});
      engine = tried;
    } catch (const Error&) {
    }
  }
  const auto ask = [&](std::size_t first) {
    Session session(*engine, {.snapshot_memory = 0});
    for (std::size_t i = 0; i < 24; ++i) {
      const std::size_t text = (first + i) % prompts.size();
      session.clear();
      session.append(prompts[text]);
      GenerateOptions wanted;
      wanted.max_tokens = 6;
      wanted.sampling.seed = 5;
      EXPECT_EQ(session.generate(wanted).ids, expected[text].drawn);
      if (first > 0 && i % 3 == 2) {
        for (const auto& file : files()) std::filesystem::remove(file);
      }
    }
  };
  std::thread other([&] { ask(1); });
  ask(0);
  other.join();
  EXPECT_EQ(engine->prefix_cache().damaged_files, 0);
}

TEST_F(PrefixFolders, LittleMemoryDropsWhatIsToBeWritten) {
  const Prompt prompt = text_from(1900, 1, 40, 1);
  SessionOptions tight = options();
  tight.context = static_cast<int>(prompt.ids.size()) + 8;
  tight.snapshot_memory = 0;
  const Reading expected = read_fresh(prompt, tight);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(read_prompt(prompt, tight).same_bits(expected));
}

TEST(PrefixNames, AreWhatTheyWereMadeOf) {
  const Digest kind = Hasher().text("x").finish();
  const Prompt prompt = text_from(1100, 1, 0, 0);
  const PlacedPicture picture{3, 4, kind}, other{3, 5, kind};
  const PrefixView plain{prompt.ids, {}};
  PrefixHash all(kind, plain);
  const Digest whole = all.at(1000);
  PrefixHash stepwise(kind, plain);
  stepwise.at(3), stepwise.at(7);
  EXPECT_EQ(stepwise.at(1000), whole);
  PrefixHash pictured(kind, {prompt.ids, {&picture, 1}});
  EXPECT_EQ(pictured.at(3), PrefixHash(kind, plain).at(3));
  EXPECT_NE(pictured.at(4), PrefixHash(kind, plain).at(4));
  EXPECT_NE(pictured.at(4), PrefixHash(kind, {prompt.ids, {&other, 1}}).at(4));
  EXPECT_NE(PrefixHash(Digest{}, plain).at(5), PrefixHash(kind, plain).at(5));

  const PrefixName name{PrefixName::What::kPlace, 1100, hash_digits(whole), base_digits(kind)};
  EXPECT_EQ(name.begin(), 1024);
  const std::string text = name.text();
  ASSERT_TRUE(PrefixName::parse(text));
  EXPECT_EQ(PrefixName::parse(text)->text(), text);
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string bad = text;
    for (const char c : {'G', '/', '+', ' ', '\0'}) {
      bad[i] = c;
      EXPECT_FALSE(PrefixName::parse(bad)) << bad;
    }
    EXPECT_FALSE(PrefixName::parse(text.substr(0, i)));
  }
  const PrefixName segment{PrefixName::What::kSegment, 2048, name.hash, name.base};
  EXPECT_EQ(PrefixName::parse(segment.text())->begin(), 1024);
  EXPECT_FALSE(PrefixName::parse("g000002047" + segment.text().substr(10)));
  EXPECT_FALSE(PrefixName::parse("g000000000" + segment.text().substr(10)));
}

}  // namespace
}  // namespace lapidary::testing
