// A session that went back, or that was forked, has the bits of a fresh one: from snapshots, from
// windows that are made again behind global layers, and from what is kept for reuse.

#include <random>
#include <thread>

#include "test_data.h"
#include "vision_fixture.h"

namespace lapidary::testing {
namespace {

constexpr int kContext = 2048;

/// What a test believes a session to hold: where its pictures are, too.
struct Text {
  Prompt prompt;
  std::vector<int> pictures;  // Where each begins.

  int size() const { return static_cast<int>(prompt.ids.size()); }

  void add(const Prompt& more) {
    const TokenId image = vision_model().tokenizer().image_token();
    for (std::size_t i = 0; i < more.ids.size(); ++i) {
      if (more.ids[i] == image && (i == 0 || more.ids[i - 1] != image))
        pictures.push_back(size() + static_cast<int>(i));
    }
    prompt.ids.insert(prompt.ids.end(), more.ids.begin(), more.ids.end());
    prompt.images.insert(prompt.images.end(), more.images.begin(), more.images.end());
  }

  /// `position`, or where the picture begins that it lies in.
  int outside_pictures(int position) const {
    const int tokens = vision_model().vision()->tokens;
    for (const int begin : pictures) {
      if (position > begin && position < begin + tokens) return begin;
    }
    return position;
  }

  void cut(int position) {
    prompt.ids.resize(static_cast<std::size_t>(position));
    while (!pictures.empty() && pictures.back() >= position) {
      pictures.pop_back();
      prompt.images.pop_back();
    }
  }
};

/// `count` ids, with a picture among them where asked.
Prompt some_prompt(int count, bool picture, std::mt19937& random) {
  std::uniform_int_distribution<TokenId> id(300, 1500);
  Prompt prompt;
  for (int i = 0; i < count; ++i) prompt.ids.push_back(id(random));
  if (!picture) return prompt;
  insert_picture(prompt, static_cast<std::size_t>(count) / 2,
                 random_features(static_cast<unsigned>(random() % 3)));
  return prompt;
}

std::uint64_t fresh(Session& session, const Prompt& prompt) {
  session.clear();
  session.append(prompt);
  return hash_bits(session.logits());
}

struct Case {
  const char* name;
  KvType kv;
  std::optional<std::uint64_t> snapshots;
  bool reuse;
};

class Rewind : public ::testing::TestWithParam<Case> {
 protected:
  SessionOptions options() const {
    return {.context = kContext,
            .chunk = 96,
            .threads = 1,
            .kv = GetParam().kv,
            .reuse = GetParam().reuse,
            .snapshot_memory = GetParam().snapshots};
  }
};

TEST_P(Rewind, HasTheBitsOfAFreshSessionAnywhere) {
  Session session(vision_model(), options());
  Session reference(vision_model(),
                    {.context = kContext, .threads = 2, .kv = GetParam().kv, .snapshot_memory = 0});
  std::mt19937 random(11);
  Text text;
  text.add({{2}, {}});
  session.append(text.prompt);
  for (int round = 0; round < 60; ++round) {
    const int room = kContext - text.size();
    const bool picture = round % 4 == 1 && room > 700;
    const int count = 1 + static_cast<int>(random() % 200);
    if (count < room - 300) {
      const Prompt more = some_prompt(count, picture, random);
      session.append(more);
      text.add(more);
    }
    if (round % 3 == 0) {
      const Completion drawn = session.generate({.max_tokens = 1 + round % 24});
      text.add({{session.ids().begin() + text.size(), session.ids().end()}, {}});
    }
    // Once, or again before anything is computed; far and near.
    for (int times = 0; times <= round % 3; ++times) {
      const int back = 1 + static_cast<int>(random() % (round % 2 == 0 ? 40U : 900U));
      const int position = text.outside_pictures(std::max(1, text.size() - back));
      const int again = session.rewind(position);
      text.cut(position);
      ASSERT_EQ(session.position(), position);
      ASSERT_LE(again, position);
      ASSERT_TRUE(std::ranges::equal(session.ids(), text.prompt.ids));
      const auto same = [](const ImageFeatures& a, const ImageFeatures& b) {
        return a.values == b.values;
      };
      ASSERT_TRUE(std::ranges::equal(session.images(), text.prompt.images, same));
    }
    ASSERT_EQ(hash_bits(session.logits()), fresh(reference, text.prompt)) << "round " << round;
    const Prompt more = some_prompt(1 + static_cast<int>(random() % 90), false, random);
    session.append(more);
    text.add(more);
    ASSERT_EQ(hash_bits(session.logits()), fresh(reference, text.prompt)) << "round " << round;
  }
}

TEST_P(Rewind, ForksGoTheirOwnWays) {
  SessionOptions with_forks = options();
  with_forks.forks = 2;
  Session session(vision_model(), with_forks);
  Session reference(vision_model(), {.context = kContext, .threads = 2, .kv = GetParam().kv});
  std::mt19937 random(12);
  Text text;
  text.add({{2}, {}});
  text.add(some_prompt(700, true, random));
  session.append(text.prompt);
  Session forks[] = {session.fork(), session.fork()};
  EXPECT_EQ(hash_bits(forks[0].logits()), hash_bits(session.logits()));
  std::vector<Text> texts(3, text);
  Session* all[] = {&session, &forks[0], &forks[1]};
  for (int round = 0; round < 12; ++round) {
    const std::size_t which = static_cast<std::size_t>(round) % 3;
    const int back = static_cast<int>(random() % 600);
    const int position = texts[which].outside_pictures(std::max(1, texts[which].size() - back));
    all[which]->rewind(position);
    texts[which].cut(position);
    const Prompt more = some_prompt(1 + static_cast<int>(random() % 150), round == 5, random);
    all[which]->append(more);
    texts[which].add(more);
    for (std::size_t i = 0; i < 3; ++i)
      ASSERT_EQ(hash_bits(all[i]->logits()), fresh(reference, texts[i].prompt)) << round;
  }
  session = Session();  // Its forks outlive it.
  EXPECT_EQ(hash_bits(forks[1].logits()), fresh(reference, texts[2].prompt));
}

INSTANTIATE_TEST_SUITE_P(Ways, Rewind,
                         ::testing::Values(Case{"Snapshots", KvType::kBf16, {}, false},
                                           Case{"SnapshotsInt8", KvType::kInt8, {}, false},
                                           Case{"ManySnapshots", KvType::kBf16, 64U << 20, false},
                                           Case{"WindowsAlone", KvType::kBf16, 0, false},
                                           Case{"WindowsAloneInt8", KvType::kInt8, 0, false},
                                           Case{"Reuse", KvType::kBf16, 0, true},
                                           Case{"ReuseAndSnapshots", KvType::kInt8, {}, true}),
                         [](const auto& way) { return way.param.name; });

Session session_of(int tokens, const SessionOptions& options, unsigned seed = 3) {
  std::mt19937 random(seed);
  Session session(vision_model(), options);
  session.append(some_prompt(tokens, false, random));
  return session;
}

TEST(RewindCost, IsTheWindowsBehindEachOtherWhereThereAreNoSnapshots) {
  Session session = session_of(1500, {.context = kContext, .chunk = 32, .snapshot_memory = 0});
  // Seven local layers with windows of 64, and 16 positions that drafts may go back; the last
  // token's row is one of them.
  EXPECT_EQ(session.rewind(1200), 7 * 63 + 16 + 1);
  EXPECT_EQ(session.rewind(1195), 7 * 63 + 16 + 1);
  EXPECT_EQ(session.rewind(100), 100);
  EXPECT_EQ(session.rewind(0), 0);
}

TEST(RewindCost, IsLittleNearTheEndOfATurn) {
  Session session = session_of(600, {.context = kContext});
  std::mt19937 random(4);
  session.append(some_prompt(300, false, random));
  session.generate({.max_tokens = 20});
  EXPECT_EQ(session.rewind(900), 0);  // Behind the prompt: as it was before the reply.
  EXPECT_LE(session.rewind(600), 1);
  EXPECT_LE(session.rewind(580), 100);  // Chunks of 512, the last piece's begin.
}

TEST(RewindCost, OfAPinnedPlaceStaysNothing) {
  Session session = session_of(100, {.context = kContext, .chunk = 64});
  session.pin();
  std::mt19937 random(5);
  for (int i = 0; i < 12; ++i) session.append(some_prompt(150, false, random));
  EXPECT_EQ(session.rewind(100), 0);
}

TEST(RewindCost, GrowsNoFasterThanTheWayBack) {
  Session session = session_of(1, {.context = 32000, .chunk = 512});
  std::mt19937 random(6);
  while (session.position() < 30000) session.append(some_prompt(997, false, random));
  int worst = 0;
  for (int back = 100; back < 8000; back = back * 3 / 2)
    worst = std::max(worst, session.rewind(session.position() - back));
  EXPECT_LE(worst, 7 * 63 + 16 + 1);
}

TEST(RewindMisuse, IsRefusedInOneLine) {
  std::mt19937 random(7);
  Session session(vision_model(), {.context = kContext});
  session.append(some_prompt(40, true, random));
  const Error within = thrown_error([&] { session.rewind(100); });
  EXPECT_EQ(within.code(), ErrorCode::kUsage);
  EXPECT_TRUE(contains(within.what(), "position 100 lies within the picture at 20 to 275"))
      << within.what();
  EXPECT_EQ(session.position(), 40 + 256);
  EXPECT_EQ(thrown_error([&] { session.rewind(-1); }).code(), ErrorCode::kUsage);
  EXPECT_EQ(session.rewind(5000), 0);
  EXPECT_EQ(session.position(), 40 + 256);
  EXPECT_TRUE(contains(thrown_error([&] { session.fork(); }).what(), "SessionOptions::forks"));
  EXPECT_TRUE(contains(
      thrown_error([&] { Session other(vision_model(), {.context = 64, .forks = 1025}); }).what(),
      "forks must be 0 to 1024"));
  EXPECT_TRUE(contains(thrown_error([&] {
                         Session other(vision_model(),
                                       {.context = 64, .draft = vision_model(), .forks = 1});
                       }).what(),
                       "draft"));
  EXPECT_EQ(Session(vision_model(), {.context = 64}).rewind(0), 0);
}

TEST(RewindToo, DropsTurnsThatWait) {
  Session session = session_of(50, {.context = kContext});
  session.add_user("hello");
  session.rewind(30);
  session.reply_to_end({.max_tokens = 1});
  EXPECT_LE(session.position(), 31);
}

TEST(RewindToo, TakesADraftModelAlong) {
  std::mt19937 random(8);
  const Prompt text = some_prompt(300, true, random);
  const Prompt more = some_prompt(30, false, random);
  Session plain(vision_model(), {.context = kContext});
  Session drafted(vision_model(), {.context = kContext, .draft = tiny_model()});
  std::vector<TokenId> drawn[2];
  for (Session* session : {&plain, &drafted}) {
    session->append(text);
    session->generate({.max_tokens = 40, .speculation = Speculation::kAlways});
    session->rewind(556);
    session->generate({.max_tokens = 10, .speculation = Speculation::kAlways});
    session->rewind(120);
    session->append(more);
    drawn[session == &plain ? 0 : 1] =
        session->generate({.max_tokens = 40, .speculation = Speculation::kAlways}).ids;
  }
  EXPECT_EQ(drawn[0], drawn[1]);
}

TEST(Fork, OfAnEngineSharesItsMemory) {
  const Engine engine(vision_model(), {.threads = 1, .context = kContext});
  std::mt19937 random(9);
  Session session(engine, {.context = 1024});
  const Prompt text = some_prompt(900, false, random);
  session.append(text);
  const std::uint64_t before = engine.stats().kv_used_bytes;
  Session fork = session.fork();
  EXPECT_EQ(engine.stats().kv_used_bytes, before);
  const TokenId ids[] = {400, 500};
  fork.append({ids, 1});
  session.append({ids + 1, 1});
  // Of each of eight layers one page, at most two.
  EXPECT_LE(engine.stats().kv_used_bytes, before + before / 4);
  Session alone(vision_model(), {.context = 1024});
  alone.append(text);
  alone.append({ids, 1});
  EXPECT_EQ(hash_bits(fork.logits()), hash_bits(alone.logits()));
}

TEST(Fork, SnapshotsMakeRoomForWhatIsNeeded) {
  const MemoryPlan one = plan_memory(test_data("tiny-gemma3-text-bf16.gguf"), {},
                                     {.context = 1024, .chunk = 128, .snapshot_memory = 0});
  // Little more than two contexts; each session alone would like three windows beside.
  const Engine engine(
      vision_model(),
      {.threads = 1, .pass = 128, .context = 1024, .kv_memory = 3 * one.kv, .reuse = false});
  Session first(engine), second(engine);
  std::mt19937 random(14);
  Session reference(vision_model(), {.context = 1024});
  Prompt text{{2}, {}};
  first.append(text);
  second.append(text);
  while (first.position() < 1000) {
    const Prompt more = some_prompt(std::min(90, 1000 - first.position()), false, random);
    first.append(more);
    second.append(more);
    text.ids.insert(text.ids.end(), more.ids.begin(), more.ids.end());
  }
  EXPECT_EQ(hash_bits(second.logits()), fresh(reference, text));
  first.rewind(500);
  text.ids.resize(500);
  EXPECT_EQ(hash_bits(first.logits()), fresh(reference, text));
}

TEST(Engine, IdleSessionsLetGoOfWhatALongPassHasLeft) {
  const Engine engine(tiny_model(), {.threads = 1,
                                     .pass = 512,
                                     .context = 700,
                                     .kv_memory = std::uint64_t{3750} << 10,
                                     .reuse = false});
  std::vector<Session> sessions;
  while (true) {
    try {
      sessions.emplace_back(engine, SessionOptions{.snapshot_memory = 0});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kMemory);
      break;
    }
  }
  ASSERT_GE(sessions.size(), 3U);
  std::mt19937 random(15);
  const Prompt first = some_prompt(100, false, random), second = some_prompt(512, false, random);
  Session reference(tiny_model(), {.context = 700});
  reference.append(first);
  reference.append(second);
  for (Session& session : sessions) {
    session.append(first);
    session.append(second);
  }
  for (Session& session : sessions)
    EXPECT_EQ(hash_bits(session.logits()), hash_bits(reference.logits()));
}

TEST(Fork, IsUsedFromAnotherThread) {
  std::mt19937 random(10);
  const Prompt text = some_prompt(400, false, random);
  Session session(vision_model(), {.context = 1024, .forks = 1});
  session.append(text);
  Session fork = session.fork();
  Completion there;
  std::thread other([&] { there = fork.generate({.max_tokens = 60}); });
  const Completion here = session.generate({.max_tokens = 60});
  other.join();
  EXPECT_EQ(here.ids, there.ids);
}

}  // namespace
}  // namespace lapidary::testing
