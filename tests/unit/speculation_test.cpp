// Speculation changes speed and nothing else: what is drawn is compared bit by bit with plain
// decoding.

#include <algorithm>
#include <memory>

#include "model_fixture.h"
#include "runtime/draft_model.h"
#include "runtime/model_impl.h"
#include "runtime/sequence.h"

namespace lapidary::testing {
namespace {

std::vector<TokenId> repeating_prompt(std::size_t length, std::size_t period) {
  std::vector<TokenId> ids{tiny_model().tokenizer().bos()};
  while (ids.size() < length) ids.push_back(tiny_ids()[1 + ids.size() % period]);
  return ids;
}

struct Outcome {
  Completion completion;
  std::vector<TokenId> ids;
  std::uint64_t logits = 0;
};

Outcome run(const Model& model, std::span<const TokenId> prompt, const SessionOptions& session,
            GenerateOptions options, Speculation speculation) {
  options.speculation = speculation;
  Session s(model, session);
  s.append(prompt);
  Outcome out;
  out.completion = s.generate(options);
  out.ids.assign(s.ids().begin(), s.ids().end());
  out.logits = hash_bits(s.logits());
  return out;
}

/// Runs both ways; gives the tokens that were accepted.
int expect_same(const Model& model, std::span<const TokenId> prompt, const SessionOptions& session,
                const GenerateOptions& options, const std::string& what) {
  SessionOptions plain_session = session;
  plain_session.draft.reset();
  const Outcome plain = run(model, prompt, plain_session, options, Speculation::kOff);
  EXPECT_EQ(plain.completion.usage.drafted_tokens, 0);
  int accepted = 0;
  for (const Speculation mode : {Speculation::kAlways, Speculation::kAuto}) {
    const Outcome fast = run(model, prompt, session, options, mode);
    EXPECT_EQ(fast.completion.ids, plain.completion.ids) << what;
    EXPECT_EQ(fast.completion.text, plain.completion.text) << what;
    EXPECT_EQ(fast.completion.finish_reason, plain.completion.finish_reason) << what;
    EXPECT_EQ(fast.ids, plain.ids) << what;
    EXPECT_EQ(fast.logits, plain.logits) << what;
    const Usage& usage = fast.completion.usage;
    EXPECT_LE(usage.accepted_tokens, usage.drafted_tokens) << what;
    if (mode == Speculation::kAlways) accepted = usage.accepted_tokens;
  }
  return accepted;
}

std::vector<SamplingOptions> samplings() {
  return {{.temperature = 0},
          {.seed = 1},
          {.temperature = 0.3F, .top_k = 8, .seed = 5},
          {.temperature = 0, .repeat_penalty = 1.3F},
          {.top_k = 3, .repeat_penalty = 0.8F, .seed = 3},
          {.top_k = 0, .top_p = 1, .min_p = 0.05F, .seed = 4}};
}

TEST(Speculation, GivesWhatPlainDecodingGives) {
  const std::vector<TokenId> repeating = repeating_prompt(90, 9);
  const std::vector<TokenId> plain(tiny_ids().begin(), tiny_ids().begin() + 40);
  int accepted = 0;
  for (const std::vector<TokenId>& prompt : {repeating, plain}) {
    for (const SamplingOptions& sampling : samplings()) {
      for (const int chunk : {1, 7, 512}) {
        const SessionOptions session{.context = 512, .chunk = chunk, .threads = 1};
        accepted += expect_same(
            tiny_model(), prompt, session, {.max_tokens = 100, .sampling = sampling},
            "seed " + std::to_string(sampling.seed) + ", chunk " + std::to_string(chunk));
      }
    }
  }
  EXPECT_GT(accepted, 100) << "nothing was speculated";
}

TEST(Speculation, OnTwoThreads) {
  const SessionOptions session{.context = 512, .threads = 2};
  EXPECT_GT(expect_same(tiny_model(), repeating_prompt(60, 5), session,
                        {.max_tokens = 24, .sampling = {.temperature = 0}}, "two threads"),
            0);
}

TEST(Speculation, PastTheSlidingWindow) {
  for (const int chunk : {8, 64}) {
    const SessionOptions session{.context = 640, .chunk = chunk, .threads = 1};
    const int accepted =
        expect_same(tiny_model(), repeating_prompt(60, 5), session,
                    {.max_tokens = 400, .sampling = {.temperature = 0.4F, .top_k = 2, .seed = 2}},
                    "chunk " + std::to_string(chunk));
    EXPECT_GT(accepted, 0);
  }
}

TEST(Speculation, UpToTheEndOfTheContext) {
  for (int room = 1; room < 24; ++room) {
    const std::vector<TokenId> prompt = repeating_prompt(60, 5);
    expect_same(tiny_model(), prompt, {.context = 60 + room, .threads = 1},
                {.sampling = {.temperature = 0}}, std::to_string(room) + " tokens of room");
  }
}

TEST(Speculation, AModelDraftsForItself) {
  const std::vector<TokenId> prompt(tiny_ids().begin(), tiny_ids().begin() + 40);
  for (const SamplingOptions& sampling : samplings()) {
    const GenerateOptions options{.max_tokens = 60, .sampling = sampling};
    const SessionOptions session{.context = 512, .threads = 1, .draft = tiny_model()};
    expect_same(tiny_model(), prompt, session, options, "draft");
    Session s(tiny_model(), session);
    s.append(prompt);
    GenerateOptions always = options;
    always.speculation = Speculation::kAlways;
    const Usage usage = s.generate(always).usage;
    // Where the text repeats, lookup comes first and may be wrong.
    EXPECT_GT(usage.accepted_tokens, 0);
  }
}

// Every guess of a model about itself is right: with the same random number it draws the same id.
TEST(Speculation, AModelIsAlwaysRightAboutItself) {
  const std::vector<TokenId> prompt(tiny_ids().begin(), tiny_ids().begin() + 40);
  const std::unique_ptr<DraftModel> draft =
      std::make_unique<DraftModel>(tiny_model(), SessionOptions{.context = 128, .threads = 1}, -1);
  for (const SamplingOptions& sampling : samplings()) {
    const Outcome plain = run(tiny_model(), prompt, {.context = 128, .threads = 1},
                              {.max_tokens = 9, .sampling = sampling}, Speculation::kOff);
    if (plain.completion.finish_reason != FinishReason::kLength) continue;
    std::vector<TokenId> ids = prompt;
    std::vector<TokenId> out(5);
    draft->clear();
    draft->follow(ids);
    ASSERT_EQ(draft->draft(ids, drawable_ids(tiny_model()), sampling, out), out.size());
    EXPECT_TRUE(std::equal(out.begin(), out.end(), plain.completion.ids.begin()));
    // Two of them are drawn, then something else: it goes back and on from there.
    ids.insert(ids.end(), out.begin(), out.begin() + 2);
    ids.push_back(out[2] == 500 ? 501 : 500);
    ASSERT_EQ(draft->draft(ids, drawable_ids(tiny_model()), sampling, out), out.size());
    Session fresh(tiny_model(), {.context = 128, .threads = 1});
    fresh.append(ids);
    const Completion expected =
        fresh.generate({.max_tokens = 5, .sampling = sampling, .speculation = Speculation::kOff});
    EXPECT_TRUE(std::equal(out.begin(), out.end(), expected.ids.begin()));
  }
}

TEST(Speculation, StopsWithinADraftCutWhereTheyCutPlainly) {
  const std::vector<TokenId> prompt = repeating_prompt(90, 9);
  const SessionOptions session{.context = 512, .threads = 1};
  GenerateOptions options{.max_tokens = 40, .sampling = {.temperature = 0}};
  const std::string text =
      run(tiny_model(), prompt, session, options, Speculation::kOff).completion.text;
  int tried = 0;
  for (std::size_t at = 0; at + 4 < text.size(); at += 2) {
    const std::string stop = text.substr(at, 3);
    if ((static_cast<unsigned char>(stop[0]) & 0xC0) == 0x80) continue;
    options.stop = {stop};
    expect_same(tiny_model(), prompt, session, options, "stop " + std::to_string(at));
    ++tried;
  }
  EXPECT_GT(tried, 10);
}

TEST(Speculation, GoesOnAfterACancelAndAnAppend) {
  const std::vector<TokenId> prompt = repeating_prompt(90, 9);
  std::vector<std::vector<TokenId>> ids;
  std::vector<std::uint64_t> hashes;
  std::vector<int> cached;
  for (const Speculation mode : {Speculation::kOff, Speculation::kAlways}) {
    Session session(tiny_model(), {.context = 512, .threads = 1});
    session.append(prompt);
    GenerateOptions options{.max_tokens = 60, .sampling = {.temperature = 0}, .speculation = mode};
    int pieces = 0;
    session.generate(options, [&](std::string_view) { return ++pieces < 7; });
    session.generate(options, [&](std::string_view) { return ++pieces < 12; });
    session.append(std::span(tiny_ids()).subspan(100, 3));
    options.max_tokens = 30;
    cached.push_back(session.generate(options).usage.cached_tokens);
    hashes.push_back(hash_bits(session.logits()));
    ids.emplace_back(session.ids().begin(), session.ids().end());
  }
  EXPECT_EQ(ids[0], ids[1]);
  EXPECT_EQ(hashes[0], hashes[1]);
  EXPECT_EQ(cached[0], cached[1]);
}

TEST(Speculation, TheDecoderMayGoBackRoundTheWindow) {
  const std::span<const TokenId> ids = tiny_ids();
  for (const int chunk : {4, 8}) {
    for (const std::size_t length : {60U, 63U, 64U, 65U, 100U, 127U, 128U, 129U, 160U, 170U}) {
      Sequence plain(tiny_model(), {.context = 256, .chunk = chunk, .threads = 1});
      plain.append(ids.first(length + 2), {}, {}, nullptr);
      Sequence back(tiny_model(), {.context = 256, .chunk = chunk, .threads = 1});
      back.append(ids.first(length), {}, {}, nullptr);
      // A wrong draft of a whole chunk is computed and dropped.
      back.ids.push_back(ids[length]);
      const std::vector<TokenId> wrong(static_cast<std::size_t>(chunk) - 1, 700);
      back.compute(wrong);
      ASSERT_EQ(back.ahead().size(), wrong.size());
      back.ids.push_back(ids[length + 1]);
      EXPECT_EQ(hash_bits(back.logits()), hash_bits(plain.logits()))
          << "chunk " << chunk << ", " << length << " tokens";
    }
  }
}

TEST(Speculation, RefusesAnotherVocabularyAndOptionsOutOfRange) {
  Session session(tiny_model(), {.context = 64, .threads = 1});
  session.append(std::span(tiny_ids()).first(10));
  for (const int bad : {0, 9, -1}) {
    EXPECT_EQ(thrown_error([&] { session.generate({.max_draft = bad}); }).code(),
              ErrorCode::kUsage);
  }
  if (real_model_path() == nullptr) GTEST_SKIP() << "LAPIDARY_TEST_MODEL is not set";
  const Error error =
      thrown_error([&] { const Session s(tiny_model(), {.context = 64, .draft = real_model()}); });
  EXPECT_EQ(error.code(), ErrorCode::kUsage);
  EXPECT_TRUE(contains(error.what(), "vocabulary")) << error.what();
}

TEST(Speculation, TheBudgetCoversTheDraftModel) {
  const Session plain(tiny_model(), {.context = 256, .threads = 1});
  SessionOptions options{.context = 256, .threads = 1, .draft = tiny_model()};
  const Session drafted(tiny_model(), options);
  EXPECT_GT(drafted.memory_bytes(), plain.memory_bytes() + tiny_model().info().kv_bytes(256));
  const ModelInfo& info = tiny_model().info();
  options.memory_limit = drafted.memory_bytes() + 2 * (info.weight_bytes + info.vocabulary_bytes);
  EXPECT_EQ(Session(tiny_model(), options).memory_bytes(), drafted.memory_bytes());
  --options.memory_limit;
  EXPECT_EQ(thrown_error([&] { const Session s(tiny_model(), options); }).code(),
            ErrorCode::kMemory);
}

TEST(Speculation, RealModelOnCodeThatRepeats) {
  if (real_model_path() == nullptr) GTEST_SKIP() << "LAPIDARY_TEST_MODEL is not set";
  const std::vector<TokenId> ids = golden_ids("gemma3-270m/text.jsonl", "code");
  std::vector<TokenId> prompt = ids;
  prompt.insert(prompt.end(), ids.begin() + 1, ids.end());
  SessionOptions session{.context = 512, .threads = 1};
  const GenerateOptions options{.max_tokens = 32, .sampling = {.temperature = 0}};
  EXPECT_GT(expect_same(real_model(), prompt, session, options, "lookup"), 8);
  session.draft = real_model();
  expect_same(real_model(), prompt, session,
              {.max_tokens = 32, .sampling = {.temperature = 0.5F, .seed = 3}}, "its own draft");
}

}  // namespace
}  // namespace lapidary::testing
