// Speculation changes speed and nothing else: what is drawn is compared bit by bit with plain
// decoding.

#include <algorithm>

#include "model_fixture.h"
#include "runtime/draft_controller.h"
#include "runtime/ngram_index.h"

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
      for (const int threads : {1, 2}) {
        for (const int chunk : {1, 7, 512}) {
          const SessionOptions session{.context = 512, .chunk = chunk, .threads = threads};
          accepted += expect_same(
              tiny_model(), prompt, session, {.max_tokens = 100, .sampling = sampling},
              "seed " + std::to_string(sampling.seed) + ", chunk " + std::to_string(chunk));
        }
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

}  // namespace
}  // namespace lapidary::testing
