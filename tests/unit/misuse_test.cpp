// What the library owes the program that it is a guest of: misuse is an Error, what callbacks throw
// passes, their floating-point environment is their own, and nothing is printed.

#include <sys/wait.h>
#include <unistd.h>

#include <cfenv>
#include <filesystem>
#include <iterator>
#include <limits>
#include <thread>
#include <utility>

#include "failing_threads.h"
#include "memory_source.h"
#include "model_fixture.h"
#include "test_data.h"
#include "text/tokenizer_impl.h"
#include "vision_builder.h"

namespace lapidary::testing {
namespace {

const std::string kText = test_data("tiny-gemma3-text-bf16.gguf");
constexpr int kMost = std::numeric_limits<int>::max();

struct Own {};  // An exception of the host's.

#if defined(__SANITIZE_THREAD__)
constexpr bool kThreadSanitizer = true;
#elif defined(__has_feature)
constexpr bool kThreadSanitizer = __has_feature(thread_sanitizer);
#else
constexpr bool kThreadSanitizer = false;
#endif

Model model_with_vision() {
  static const test::TempFile vision(test::tiny_vision().build());
  return Model::load(kText, {.vision = vision.path()});
}

Image grey_picture() {
  const std::vector<std::uint8_t> grey(std::size_t{3} * 32 * 32, 128);
  return Image::from_rgb(32, 32, grey);
}

std::span<const TokenId> some_ids() { return std::span(tiny_ids()).first(20); }

template <class F>
void expect_usage(F&& body, const char* part) {
  const Error error = thrown_error(body);
  EXPECT_EQ(error.code(), ErrorCode::kUsage) << error.what();
  EXPECT_TRUE(contains(error.what(), part)) << error.what();
}

void expect_empty(const Model& model) {
  EXPECT_FALSE(model);
  expect_usage([&] { model.info(); }, "empty");
  expect_usage([&] { model.tokenizer(); }, "empty");
  expect_usage([&] { model.vision(); }, "empty");
  expect_usage([&] { model.isa(); }, "empty");
  expect_usage([&] { Session{model}; }, "empty");
  expect_usage([&] { ImageEncoder{model}; }, "empty");
  expect_usage([&] { Session(tiny_model(), {.draft = model}); }, "empty");
}

TEST(Empty, Model) {
  expect_empty(Model());
  Model model = tiny_model();
  ASSERT_TRUE(model);
  const Model moved = std::move(model);
  expect_empty(model);  // NOLINT(bugprone-use-after-move)
  model = moved;
  EXPECT_EQ(model.info().layers, 8);
}

void expect_empty(Session& session) {
  EXPECT_FALSE(session);
  const auto refused = [](auto body) { expect_usage(body, "the session is empty"); };
  Prompt prompt;
  prompt.ids.assign(some_ids().begin(), some_ids().end());
  refused([&] { session.append(some_ids()); });
  refused([&] { session.append(prompt); });
  refused([&] { session.append_with_logits(some_ids(), [](int, std::span<const float>) {}); });
  refused([&] { session.append_with_logits(prompt, [](int, std::span<const float>) {}); });
  refused([&] { session.logits(); });
  refused([&] { session.draw({}); });
  refused([&] { session.head_stats(); });
  refused([&] { session.generate({}); });
  refused([&] { session.add_user("Hi"); });
  refused([&] { session.add_user("Hi", std::vector<Image>{}); });
  refused([&] { session.add_user(std::span<const ContentPart>()); });
  refused([&] { session.reply(); });
  refused([&] { session.reply_to_end({}); });
  refused([&] { session.ids(); });
  refused([&] { session.position(); });
  refused([&] { session.context(); });
  refused([&] { session.threads(); });
  refused([&] { session.memory_bytes(); });
  refused([&] { session.clear(); });
  refused([&] { session.model(); });
  Session* const sessions[] = {&session};
  const TokenId id = 5;
  refused([&] { append_together(sessions, {&id, 1}); });
}

TEST(Empty, Session) {
  Session none;
  expect_empty(none);
  Session session(tiny_model(), {.context = 64});
  session.append(some_ids());
  Session moved = std::move(session);
  expect_empty(session);  // NOLINT(bugprone-use-after-move)
  session = std::move(moved);
  EXPECT_EQ(session.position(), 20);
  Session* const sessions[] = {nullptr};
  const TokenId id = 5;
  expect_usage([&] { append_together(sessions, {&id, 1}); }, "empty");
}

TEST(Empty, Reply) {
  Reply none;
  EXPECT_FALSE(none);
  expect_usage([&] { none.begin(); }, "the reply is empty");
  expect_usage([&] { none.completion(); }, "the reply is empty");
  Session session(tiny_model(), {.context = 64});
  session.append(some_ids());
  Reply reply = session.reply({.max_tokens = 8});
  none = std::move(reply);
  expect_usage([&] { reply.begin(); }, "empty");  // NOLINT(bugprone-use-after-move)
  std::string text;
  for (const std::string_view piece : none) text += piece;
  EXPECT_EQ(text, none.completion().text);
}

TEST(Empty, EncoderTokenizerAndPicture) {
  ImageEncoder encoder;
  EXPECT_FALSE(encoder);
  expect_usage([&] { encoder.load(); }, "the image encoder is empty");
  expect_usage([&] { encoder.encode(grey_picture()); }, "the image encoder is empty");
  expect_usage([&] { encoder.memory_bytes(); }, "the image encoder is empty");
  encoder = ImageEncoder(model_with_vision());
  expect_usage([&] { encoder.encode(Image()); }, "the picture is empty");
  EXPECT_EQ(encoder.encode(grey_picture()).features.size(), 1U);
  expect_usage([] { Image().rgb(); }, "the picture is empty");
  const Tokenizer none;
  EXPECT_FALSE(none);
  expect_usage([&] { none.encode("a"); }, "the tokenizer is empty");
  expect_usage(
      [&] {
        none.decode({});
        none.piece(1);
      },
      "the tokenizer is empty");
  expect_usage([&] { none.bos(); }, "the tokenizer is empty");
  expect_usage([&] { Detokenizer{none}; }, "the tokenizer is empty");
  expect_usage([&] { text_prompt(none, "a"); }, "the tokenizer is empty");
}

TEST(InUse, TwoThreadsOnASession) {
  Session session(tiny_model(), {.context = 512, .chunk = 8, .threads = 2});
  std::atomic<bool> inside{false}, tried{false};
  std::jthread first([&] {
    session.append(std::span(tiny_ids()).first(64), [&](std::uint64_t, std::uint64_t) {
      inside = true;
      inside.notify_all();
      tried.wait(false);
    });
  });
  inside.wait(false);
  expect_usage([&] { session.append(some_ids()); }, "in use");
  expect_usage([&] { session.logits(); }, "in use");
  expect_usage([&] { session.generate({}); }, "in use");
  expect_usage([&] { session.clear(); }, "in use");
  Session* const sessions[] = {&session};
  const TokenId id = 5;
  expect_usage([&] { append_together(sessions, {&id, 1}); }, "in use");
  tried = true;
  tried.notify_all();
  first.join();
  session.append(some_ids());
  EXPECT_EQ(session.position(), 84);
}

TEST(InUse, ThreadsThatRaceForASession) {
  Session session(tiny_model(), {.context = 2048, .threads = 2});
  std::atomic<int> appended{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int round = 0; round < 20; ++round) {
          try {
            session.append(some_ids());
            ++appended;
          } catch (const Error& error) {
            EXPECT_EQ(error.code(), ErrorCode::kUsage);
          }
        }
      });
    }
  }
  EXPECT_GT(appended, 0);
  EXPECT_EQ(session.position(), 20 * appended);
}

TEST(InUse, CallbackThatUsesItsSession) {
  Session session(tiny_model(), {.context = 512});
  session.append(some_ids());
  const auto misuse = [&](std::string_view) -> bool {
    EXPECT_GE(session.position(), 20);  // To ask is no use.
    session.append(some_ids());
    return true;
  };
  expect_usage([&] { session.generate({.max_tokens = 8}, misuse); }, "called from");
  session.append(some_ids());
}

TEST(InUse, TwoThreadsOnAnEncoder) {
  ImageEncoder encoder(model_with_vision(), {.threads = 2});
  std::atomic<bool> inside{false}, tried{false};
  std::jthread first([&] {
    encoder.encode(grey_picture(), {}, [&](std::uint64_t, std::uint64_t) {
      inside = true;
      inside.notify_all();
      tried.wait(false);
    });
  });
  inside.wait(false);
  expect_usage([&] { encoder.encode(grey_picture()); }, "in use");
  expect_usage([&] { encoder.load(); }, "in use");
  tried = true;
  tried.notify_all();
}

TEST(Fork, ASessionIsRefusedInTheChild) {
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer makes no threads behind a fork";
  Model model = model_with_vision();
  auto session = std::make_unique<Session>(model, SessionOptions{.context = 64, .threads = 3});
  auto encoder = std::make_unique<ImageEncoder>(model, ImageEncoderOptions{.threads = 3});
  session->append(some_ids());
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::alarm(10);  // Ends a child that hangs.
    const auto refused = [](auto body) {
      try {
        body();
      } catch (const Error& error) {
        return error.code() == ErrorCode::kUsage && contains(error.what(), "fork");
      }
      return false;
    };
    if (!refused([&] { session->append(some_ids()); })) ::_exit(1);
    if (!refused([&] { session->generate({}); })) ::_exit(2);
    if (!refused([&] { encoder->encode(grey_picture()); })) ::_exit(3);
    session.reset();
    encoder.reset();
    // The model is as good here as there.
    Session own(model, {.context = 64, .threads = 3});
    own.append(some_ids());
    if (own.logits().empty()) ::_exit(4);
    own = Session();
    model = Model();
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(WEXITSTATUS(status), 0);
  session->append(some_ids());
}

TEST(Callbacks, WhatTheyThrowPasses) {
  const auto own = [](std::uint64_t, std::uint64_t) { throw Own(); };
  const auto no_memory = [](std::uint64_t, std::uint64_t) { throw std::bad_alloc(); };
  const auto error = [](std::uint64_t, std::uint64_t) { throw std::runtime_error("own"); };
  EXPECT_THROW(Model::load(kText, {.progress = own}), Own);
  EXPECT_THROW(Model::load(kText, {.progress = no_memory}), std::bad_alloc);
  Session session(tiny_model(), {.context = 512});
  EXPECT_THROW(session.append(some_ids(), own), Own);
  EXPECT_THROW(session.append(some_ids(), no_memory), std::bad_alloc);
  EXPECT_THROW(session.append(some_ids(), error), std::runtime_error);
  EXPECT_THROW(
      session.append_with_logits(some_ids(), [](int, std::span<const float>) { throw Own(); }),
      Own);
  EXPECT_THROW(session.generate({}, [](std::string_view) -> bool { throw Own(); }), Own);
  ImageEncoder encoder(model_with_vision());
  EXPECT_THROW(encoder.load(own), Own);
  EXPECT_THROW(encoder.encode(grey_picture(), {}, own), Own);
  expect_usage([&] { session.append_with_logits(some_ids(), {}); }, "no function");
}

TEST(Callbacks, OneThatThrowsLeavesTheRestOfAReplysPrompt) {
  const auto prompt = [](Session& session) {
    std::vector<ContentPart> parts(1);
    parts[0].text = "Some words that make more than one chunk of a prompt.";
    session.add_user(parts);
  };
  Session whole(tiny_model(), {.context = 512, .chunk = 8});
  Session broken(tiny_model(), {.context = 512, .chunk = 8});
  try {
    prompt(whole);
  } catch (const Error&) {
    GTEST_SKIP() << "the tiny vocabulary has no turns";
  }
  prompt(broken);
  const GenerateOptions options{.max_tokens = 8};
  EXPECT_THROW(broken.reply_to_end(options, {}, [](std::uint64_t, std::uint64_t) { throw Own(); }),
               Own);
  EXPECT_EQ(broken.position(), 8);
  EXPECT_EQ(broken.reply_to_end(options).ids, whole.reply_to_end(options).ids);
}

TEST(Callbacks, HaveTheirOwnFloatingPoint) {
  volatile float small = std::numeric_limits<float>::min();
  int calls = 0;
  const auto check = [&](std::uint64_t, std::uint64_t) {
    ++calls;
    EXPECT_NE(small / 2, 0.0F) << "denormals are flushed";
    EXPECT_EQ(std::fegetround(), FE_UPWARD);
  };
  std::fesetround(FE_UPWARD);
  Model::load(kText, {.threads = 1, .progress = check});
  ImageEncoder encoder(model_with_vision(), {.threads = 1});
  encoder.load(check);
  encoder.encode(grey_picture(), {}, check);
  Session session(tiny_model(), {.context = 64, .threads = 1});
  session.append(some_ids(), check);
  session.append_with_logits(some_ids(), [&](int, std::span<const float>) { check(0, 0); });
  session.generate({.max_tokens = 4}, [&](std::string_view) {
    check(0, 0);
    return true;
  });
  std::fesetround(FE_TONEAREST);
  EXPECT_GT(calls, 30);
}

TEST(Threads, ThatCannotBeMadeAreAnError) {
  if (LAPIDARY_FAILS_THREADS == 0) GTEST_SKIP() << "the sanitizer makes the threads";
  const Model model = model_with_vision();
  for (const int possible : {0, 1, 2}) {
    const injection::OnlyThreads only(possible);
    const auto refused = [](auto body) {
      const Error error = thrown_error(body);
      EXPECT_EQ(error.code(), ErrorCode::kFailed);
      EXPECT_TRUE(contains(error.what(), "6 were asked for")) << error.what();
    };
    refused([&] { Model::load(kText, {.threads = 6}); });
    injection::threads_left = possible;
    refused([&] { Session(model, {.context = 64, .threads = 6}); });
    injection::threads_left = possible;
    refused([&] { ImageEncoder(model, {.threads = 6}); });
    injection::threads_left = possible;
    refused([&] { encoder_input(grey_picture(), {0, 0, 32, 32}, 896, 6); });
  }
  // The thread beside the caller's that builds the tokenizer can be done without.
  const injection::OnlyThreads none(0);
  EXPECT_FALSE(Model::load(kText, {.threads = 1}).tokenizer().encode("Gem").empty());
}

TEST(Range, OptionsAreRefusedByName) {
  const Model& model = tiny_model();
  expect_usage([&] { Session(model, {.context = kMost}); }, "context must be 0 to 268435456");
  expect_usage([&] { plan_memory(kText, {}, {.context = kMost}); }, "context");
  expect_usage([&] { Session(model, {.context = 64, .threads = kMost}); }, "threads");
  expect_usage([&] { plan_memory(kText, {}, {.threads = kMost}); }, "threads");
  expect_usage([&] { plan_memory(kText, {}, {.threads = -1}); }, "threads");
  expect_usage([&] { Model::load(kText, {.threads = kMost}); }, "threads");
  expect_usage([&] { measure_machine(kMost); }, "threads");
  expect_usage([&] { image_prompt_tokens(model.tokenizer(), kMost); }, "views");
  EXPECT_EQ(Session(model, {.context = 64, .chunk = kMost}).context(), 64);
}

TEST(Range, TheLargestTopKKeepsAll) {
  const auto draw = [](int top_k) {
    Session session(tiny_model(), {.context = 128});
    session.append(some_ids());
    SamplingOptions sampling{.top_k = top_k, .top_p = 0.9F, .repeat_penalty = 1.3F, .seed = 7};
    return session.generate({.max_tokens = 32, .sampling = sampling}).ids;
  };
  EXPECT_EQ(draw(kMost), draw(0));
}

TEST(Range, KeysAndValuesOfTheLongestContext) {
  const ModelInfo info = inspect(kText);
  const std::uint64_t global = 2 * 2 * 64;  // Bf16 keys and values of two heads of 32.
  EXPECT_GE(info.kv_bytes(kMost), kMost * global);
  EXPECT_LT(info.kv_bytes(kMost), kMost * global + (1 << 24));
  EXPECT_GE(info.kv_bytes(kMost, true), 8 * global * kMost);
}

TEST(Output, NothingIsPrinted) {
  ::testing::internal::CaptureStderr();
  ::testing::internal::CaptureStdout();
  for (const char* folder : {"vision/decode", "vision/images"}) {
    for (const auto& entry : std::filesystem::directory_iterator(test_data(folder))) {
      if (!entry.is_regular_file()) continue;
      std::ifstream in(entry.path(), std::ios::binary);
      std::string bytes((std::istreambuf_iterator<char>(in)), {});
      if (bytes.size() > 100'000) continue;
      for (const std::size_t keep : {bytes.size(), bytes.size() - 1, bytes.size() / 2}) {
        try {
          Image::decode(std::as_bytes(std::span(bytes).first(keep)));
        } catch (const Error&) {
        }
      }
      bytes[bytes.size() / 3] ^= 0x55;
      try {
        Image::decode(std::as_bytes(std::span(bytes)));
      } catch (const Error&) {
      }
    }
  }
  MemorySource twice = small_vocabulary();
  twice.tokens()[266] = "b";
  thrown_error([&] { finish_loading(load_tokenizer(twice)); });
  thrown_error([] { Model::load(test_data("tokenizer.jsonl")); });
  tiny_model().tokenizer().encode(std::string("\xFF\x00\xC0 <unk>", 10), true);
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace lapidary::testing
