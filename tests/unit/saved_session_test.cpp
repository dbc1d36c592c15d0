// Sessions that were saved and loaded: the same bits as the saved one and as a fresh prefill,
// wherever they go on; and what does not fit.

#include "saved_session.h"

#include <sys/stat.h>

#include <atomic>
#include <filesystem>

#include "formats/weight_source.h"
#include "gguf_builder.h"

namespace lapidary::testing {
namespace {

/// Both sessions go on in the same way and have the same bits as a fresh one.
void expect_same_way(Tracked& saved, Tracked& loaded, Prompts& prompts, KvType kv) {
  ASSERT_EQ(loaded.prompt().ids, saved.prompt().ids);
  if (saved.session.position() == 0) return;
  const std::uint64_t fresh = fresh_logits(saved.prompt(), kv);
  ASSERT_EQ(loaded.logits(), fresh);
  ASSERT_EQ(saved.logits(), fresh);
  SamplingOptions sampling;
  sampling.temperature = 1;
  ASSERT_EQ(loaded.session.draw(sampling), saved.session.draw(sampling));
  const int back = prompts.number(0, saved.session.position());
  saved.rewind(back);
  loaded.rewind(back);
  const std::vector<TokenId> ids = prompts.text(20);
  ASSERT_EQ(hash_positions(loaded.session, ids), hash_positions(saved.session, ids));
  ASSERT_EQ(loaded.logits(), fresh_logits(loaded.prompt(), kv));
}

void wander_and_load(unsigned seed, KvType kv) {
  SCOPED_TRACE(seed);
  const Folder folder;
  Prompts prompts(seed);
  SessionOptions options{.context = 2048, .chunk = prompts.number(16, 300), .threads = 1, .kv = kv};
  if (seed % 3 == 0) options.snapshot_memory = 0;
  Tracked saved{Session(vision_model(), options)};
  wander(saved, prompts, 12);
  const std::string note = "note " + std::to_string(seed);
  saved.session.save(folder.path("a"), note);
  EXPECT_EQ(folder.names(), std::vector<std::string>{"a"});
  options = {.context = prompts.number(2048, 3000),
             .chunk = prompts.number(16, 300),
             .threads = prompts.number(1, 2),
             .kv = kv};
  if (seed % 4 == 0) options.snapshot_memory = std::uint64_t{200} << 10;
  Tracked loaded{Session(vision_model(), options), saved.images};
  if (seed % 2 == 0) loaded.session.append(prompts.text(600));
  const Loaded found = loaded.session.load(folder.path("a"));
  EXPECT_EQ(found.note, note);
  EXPECT_EQ(found.recomputed, 0);
  expect_same_way(saved, loaded, prompts, kv);
}

TEST(SavedSession, HasTheBitsOfTheSavedOne) {
  for (unsigned seed = 0; seed < 24; ++seed)
    wander_and_load(seed, seed % 2 == 0 ? KvType::kBf16 : KvType::kInt8);
  for (unsigned seed = 24; seed < 30; ++seed)
    wander_and_load(seed, seed % 2 == 0 ? KvType::kInt8 : KvType::kBf16);
}

// Between a rewind and the end of what it leaves to compute, local layers lack what lies in front.
TEST(SavedSession, WhileWindowsAreMadeAgain) {
  for (const int computed : {0, 1, 3, 6}) {
    SCOPED_TRACE(computed);
    const Folder folder;
    Prompts prompts(5);
    SessionOptions options{.context = 2048, .chunk = 64, .threads = 1};
    options.snapshot_memory = 0;
    Tracked saved{Session(vision_model(), options)};
    saved.append({prompts.text(1500), {}});
    EXPECT_GT(saved.session.rewind(1100), 300) << "the windows are to be made again";
    if (computed > 0) {
      std::atomic<bool> cancel{false};
      int chunks = 0;
      const Progress stop = [&](std::uint64_t, std::uint64_t) { cancel = ++chunks == computed; };
      const Error error =
          thrown_error([&] { saved.session.append(prompts.text(200), stop, &cancel); });
      EXPECT_EQ(error.code(), ErrorCode::kInterrupted);
    }
    saved.session.save(folder.path("a"));
    Tracked loaded{Session(vision_model(), {.context = 2048, .threads = 1})};
    loaded.session.load(folder.path("a"));
    expect_same_way(saved, loaded, prompts, KvType::kBf16);
  }
}

TEST(SavedSession, OfNothing) {
  const Folder folder;
  Session saved(vision_model(), {.context = 256});
  saved.save(folder.path("a"), "empty");
  Session loaded(vision_model(), {.context = 256});
  loaded.append(Prompts(1).text(20));
  EXPECT_EQ(loaded.load(folder.path("a")).note, "empty");
  EXPECT_EQ(loaded.position(), 0);
  EXPECT_TRUE(loaded.logits().empty());
}

TEST(SavedSession, ForksAndSessionsOfAnEngine) {
  const Folder folder;
  Prompts prompts(3);
  Tracked first{Session(vision_model(), {.context = 1024, .threads = 1, .forks = 1})};
  first.append(prompts.picture(100, 100));
  Tracked second{first.session.fork(), first.images};
  second.append({prompts.text(50), {}});
  first.session.save(folder.path("first"));
  second.session.save(folder.path("second"));
  EngineOptions options;
  options.context = 1024;
  options.threads = 1;
  options.reuse = true;
  const Engine engine(vision_model(), options);
  Tracked other{Session(engine), first.images};
  other.session.load(folder.path("first"));
  Tracked another{Session(engine), second.images};
  another.session.load(folder.path("second"));
  expect_same_way(first, other, prompts, KvType::kBf16);
  expect_same_way(second, another, prompts, KvType::kBf16);
  // Over what is there, and into the fork itself.
  other.session.load(folder.path("second"));
  second.session.load(folder.path("second"));
  other.images = second.images = another.images;
  second.images = other.images = first.images;
  expect_same_way(second, other, prompts, KvType::kBf16);
}

TEST(SavedSession, SnapshotsAsFarAsThereIsRoom) {
  const Folder folder;
  Prompts prompts(9);
  Tracked saved{Session(vision_model(), {.context = 4096, .threads = 1})};
  for (int i = 0; i < 6; ++i) saved.append({prompts.text(500), {}});
  saved.session.save(folder.path("a"));
  SessionOptions none{.context = 4096, .threads = 1};
  none.snapshot_memory = 0;
  Tracked few{Session(vision_model(), none)}, many{Session(vision_model(), {.context = 4096})};
  few.session.load(folder.path("a"));
  many.session.load(folder.path("a"));
  const int recomputed = many.rewind(2500);
  EXPECT_EQ(recomputed, saved.rewind(2500)) << "the snapshots came along";
  EXPECT_GT(few.rewind(2500), recomputed);
  const std::uint64_t fresh = fresh_logits(saved.prompt());
  EXPECT_EQ(few.logits(), fresh);
  EXPECT_EQ(many.logits(), fresh);
  EXPECT_EQ(saved.logits(), fresh);
}

TEST(SavedSession, AContextThatIsTooShort) {
  const Folder folder;
  Session saved(vision_model(), {.context = 512});
  saved.append(Prompts(1).text(301));
  saved.save(folder.path("a"));
  Session loaded(vision_model(), {.context = 300});
  loaded.append(Prompts(2).text(10));
  for (const IfUnusable otherwise : {IfUnusable::kRefuse, IfUnusable::kRecompute}) {
    const Error error = thrown_error([&] { loaded.load(folder.path("a"), otherwise); });
    EXPECT_EQ(error.code(), ErrorCode::kContext);
    EXPECT_EQ(std::string(error.what()),
              folder.path("a") + ": the session has 301 tokens, but the context holds 300");
    EXPECT_EQ(loaded.position(), 10);
  }
}

/// A copy of the tiny model in which the byte at `at` is another.
void write_other_model(const Folder& folder, const std::string& name, std::size_t at) {
  std::string bytes = test::read_file(test_data("tiny-gemma3-text-bf16.gguf"));
  ASSERT_LT(at, bytes.size());
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  folder.write(name, bytes);
}

TEST(SavedSession, OfAnotherModelOrKind) {
  const Folder folder;
  Prompts prompts(4);
  Tracked saved{Session(vision_model(), {.context = 1024, .threads = 1})};
  saved.append(prompts.picture(70, 60));
  saved.session.save(folder.path("a"), "kept");
  const FileInfo info = list_file(test_data("tiny-gemma3-text-bf16.gguf"));
  write_other_model(folder, "weights", info.tensors.back().offset);
  const Model other =
      Model::load(folder.path("weights"), {.vision = test_data("tiny-gemma3-mmproj-f16.gguf")});
  const auto expect = [&](const Model& model, KvType kv, const std::string& why) {
    Session loaded(model, {.context = 1024, .threads = 1, .kv = kv});
    const Error error = thrown_error([&] { loaded.load(folder.path("a")); });
    EXPECT_EQ(error.code(), ErrorCode::kFile);
    EXPECT_EQ(std::string(error.what()), folder.path("a") + ": keys and values are " + why);
    EXPECT_EQ(loaded.position(), 0);
    const Loaded found = loaded.load(folder.path("a"), IfUnusable::kRecompute);
    EXPECT_EQ(found.recomputed, saved.session.position());
    EXPECT_EQ(found.note, "kept");
    Session fresh(model, {.context = 1024, .threads = 1, .kv = kv});
    fresh.append(saved.prompt());
    EXPECT_EQ(hash_bits(loaded.logits()), hash_bits(fresh.logits()));
  };
  expect(vision_model(), KvType::kInt8, "bf16, expected int8");
  expect(other, KvType::kBf16, "of another model");
  Session blind(tiny_model(), {.context = 1024, .threads = 1});
  const Error error = thrown_error([&] { blind.load(folder.path("a"), IfUnusable::kRecompute); });
  EXPECT_EQ(error.code(), ErrorCode::kUsage);
  EXPECT_EQ(std::string(error.what()),
            folder.path("a") +
                ": the session has 1 pictures, but the model was loaded without a vision file");
}

TEST(SavedSession, OfAnotherVocabulary) {
  const Folder folder;
  Session saved(tiny_model(), {.context = 512, .threads = 1});
  saved.append(tiny_ids());
  saved.save(folder.path("a"));
  // A letter of a piece that is long enough to be met nowhere else.
  TokenId longest = 0;
  for (TokenId id = 0; id < tiny_model().tokenizer().vocabulary_size(); ++id) {
    const std::string_view piece = tiny_model().tokenizer().piece(id);
    const bool plain = std::ranges::all_of(piece, [](char c) { return c >= 'a' && c <= 'z'; });
    if (plain && piece.size() > tiny_model().tokenizer().piece(longest).size()) longest = id;
  }
  const std::string piece(tiny_model().tokenizer().piece(longest));
  const std::size_t at = test::read_file(test_data("tiny-gemma3-text-bf16.gguf")).find(piece);
  write_other_model(folder, "vocabulary", at + piece.size() - 1);
  const Model other = Model::load(folder.path("vocabulary"));
  Session loaded(other, {.context = 512, .threads = 1});
  const Error error = thrown_error([&] { loaded.load(folder.path("a"), IfUnusable::kRecompute); });
  EXPECT_EQ(error.code(), ErrorCode::kFile);
  EXPECT_EQ(std::string(error.what()),
            folder.path("a") + ": the session's ids are of another vocabulary");
}

TEST(SavedSession, WhatIsNoFileOfOne) {
  const Folder folder;
  std::filesystem::create_directory(folder.path("folder"));
  ASSERT_EQ(::mkfifo(folder.path("fifo").c_str(), 0600), 0);
  folder.write("text", "no session, but long enough for a header");
  Session session(vision_model(), {.context = 256, .threads = 1});
  session.append(Prompts(1).text(20));
  session.save(folder.path("a"));
  std::string bytes = folder.read("a");
  bytes[8] = 2;
  folder.write("newer", bytes);
  const std::uint64_t logits = hash_bits(session.logits());
  const auto refused = [&](const std::string& path, const std::string& why) {
    for (const IfUnusable otherwise : {IfUnusable::kRefuse, IfUnusable::kRecompute}) {
      const Error error = thrown_error([&] { session.load(path, otherwise); });
      EXPECT_EQ(error.code(), ErrorCode::kFile);
      EXPECT_EQ(std::string(error.what()), path + ": " + why);
    }
  };
  refused(folder.path("folder"), "expected a file, found a directory");
  refused(folder.path("fifo"), "expected a regular file");
  refused("/dev/null", "expected a regular file");
  refused(folder.path("none"), "cannot be opened: No such file or directory");
  refused(folder.path("text"), "expected a saved session");
  refused(folder.path("newer"), "expected a saved session of version 1, found version 2");
  EXPECT_EQ(session.position(), 20);
  EXPECT_EQ(hash_bits(session.logits()), logits);
  for (const char* const name : {"folder", "fifo"})
    EXPECT_EQ(thrown_error([&] { session.save(folder.path(name)); }).code(), ErrorCode::kFile);
}

TEST(SavedSession, Interrupted) {
  const Folder folder;
  Session session(vision_model(), {.context = 1024, .chunk = 64, .threads = 1});
  session.append(Prompts(1).text(400));
  session.save(folder.path("a"), "old");
  std::atomic<bool> cancel{true};
  EXPECT_EQ(thrown_error([&] { session.save(folder.path("a"), "new", &cancel); }).code(),
            ErrorCode::kInterrupted);
  EXPECT_EQ(folder.names(), std::vector<std::string>{"a"});
  Session other(vision_model(), {.context = 1024, .chunk = 64, .threads = 1, .kv = KvType::kInt8});
  cancel = false;
  int calls = 0;
  const Progress stop = [&](std::uint64_t done, std::uint64_t total) {
    EXPECT_EQ(total, 400U);
    EXPECT_LE(done, total);
    cancel = ++calls == 2;
  };
  EXPECT_EQ(thrown_error([&] {
              other.load(folder.path("a"), IfUnusable::kRecompute, stop, &cancel);
            }).code(),
            ErrorCode::kInterrupted);
  EXPECT_EQ(other.position(), 0) << "not a part of a session";
  cancel = false;
  EXPECT_EQ(other.load(folder.path("a"), IfUnusable::kRecompute, {}, &cancel).note, "old");
}

}  // namespace
}  // namespace lapidary::testing
