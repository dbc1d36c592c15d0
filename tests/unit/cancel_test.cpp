// What takes long can be stopped: loading, tokenizing, pictures. Counted in reads of the file and
// calls back where that can be, so that a busy machine changes nothing.

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "model_fixture.h"
#include "test_data.h"
#include "vision/decode.h"
#include "watched_reads.h"

namespace lapidary::testing {
namespace {

const std::string kText = test_data("tiny-gemma3-text-bf16.gguf");
const std::string kVision = test_data("tiny-gemma3-mmproj-f16.gguf");

struct Own {};  // An exception of the host's.

/// Calls `at` before read `number`, and counts the reads behind it.
class ReadWatch {
 public:
  ReadWatch(int number, std::function<void()> at) {
    injection::reads = 0;
    injection::on_read = [number, call = std::move(at)](int n) {
      if (n == number) call();
    };
  }
  ~ReadWatch() { injection::on_read = nullptr; }
  ReadWatch(const ReadWatch&) = delete;
  ReadWatch& operator=(const ReadWatch&) = delete;
};

int reads_of(const std::function<void()>& load) {
  injection::reads = 0;
  load();
  return injection::reads;
}

TEST(Cancel, StopsAModelsLoadAtAnyRead) {
  constexpr int kThreads = 3;
  const auto load = [](const std::atomic<bool>* cancel) {
    return Model::load(kText, {.threads = kThreads, .cancel = cancel});
  };
  const int all = reads_of([&] { load(nullptr); });
  ASSERT_GT(all, 60);
  // Behind the last reads nothing is left to stop.
  for (int number = 0; number < all - kThreads; number += 1 + all / 25) {
    std::atomic<bool> cancel{false};
    const ReadWatch watch(number, [&] { cancel = true; });
    const Error error = thrown_error([&] { load(&cancel); });
    EXPECT_EQ(error.code(), ErrorCode::kInterrupted) << error.what();
    // The header is read in a few pieces between which nobody looks.
    EXPECT_LE(injection::reads, std::max(number + 1 + kThreads, 8)) << "of " << all;
  }
}

TEST(Cancel, NobodyWaitsForSentencePiece) {
  // What reads the vocabulary for it is one thread; a load that is given up while it works leaves
  // it behind, and a later one is whole.
  for (int i = 0; i < 20; ++i) {
    const std::atomic<bool> cancel{true};
    EXPECT_EQ(thrown_error([&] { Model::load(kText, {.cancel = &cancel}); }).code(),
              ErrorCode::kInterrupted);
  }
  EXPECT_FALSE(Model::load(kText).tokenizer().encode("Gem").empty());
}

TEST(Cancel, StopsAVisionModelsLoadAndTheNextOneIsWhole) {
  constexpr int kThreads = 3;
  const auto new_model = [] { return Model::load(kText, {.vision = kVision}); };
  const auto load = [&](const Model& model, const std::atomic<bool>* cancel) {
    ImageEncoder(model, {.threads = kThreads}).load({}, cancel);
  };
  const Model whole = new_model();
  const int all = reads_of([&] { load(whole, nullptr); });
  for (int number = 0; number < all - kThreads; number += 1 + all / 10) {
    const Model model = new_model();
    std::atomic<bool> cancel{false};
    {
      const ReadWatch watch(number, [&] { cancel = true; });
      EXPECT_EQ(thrown_error([&] { load(model, &cancel); }).code(), ErrorCode::kInterrupted);
      EXPECT_LE(injection::reads, number + 1 + kThreads) << "of " << all;
    }
    EXPECT_EQ(reads_of([&] { load(model, nullptr); }), all);
  }
}

TEST(Cancel, WaitsForAnotherEncodersLoadNoLongerThanAsked) {
  const Model model = Model::load(kText, {.vision = kVision});
  std::atomic<bool> begun{false}, over{false};
  const auto hold = [&](std::uint64_t, std::uint64_t) {
    begun = true;
    begun.notify_all();
    over.wait(false);
  };
  std::jthread first([&] { ImageEncoder(model, {.threads = 1}).load(hold); });
  begun.wait(false);
  std::atomic<bool> cancel{false};
  std::jthread second([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    cancel = true;
  });
  EXPECT_EQ(thrown_error([&] { ImageEncoder(model).load({}, &cancel); }).code(),
            ErrorCode::kInterrupted);
  over = true;
  over.notify_all();
}

TEST(Cancel, WhatProgressThrowsEndsALoadAtOnce) {
  constexpr int kThreads = 3;
  int calls = 0, reads = 0;
  const auto fail = [&](std::uint64_t, std::uint64_t) {
    ++calls;
    reads = injection::reads;
    throw Own();
  };
  // A whole load reads a hundred times; what is under way may end, on a busy machine a little more.
  constexpr int kMost = 8 * kThreads;
  EXPECT_THROW(Model::load(kText, {.threads = kThreads, .progress = fail}), Own);
  EXPECT_EQ(calls, 1);
  EXPECT_LE(injection::reads - reads, kMost);
  const Model model = Model::load(kText, {.vision = kVision});
  ImageEncoder encoder(model, {.threads = kThreads});
  EXPECT_THROW(encoder.load(fail), Own);
  EXPECT_EQ(calls, 2);
  EXPECT_LE(injection::reads - reads, kMost);
  encoder.load();
}

TEST(Cancel, StopsALongTokenization) {
  const Tokenizer& tokenizer = tiny_model().tokenizer();
  std::string text;
  while (text.size() < 3'000'000) text += "many words and no end of a line ";
  std::atomic<bool> cancel{true};
  const auto code = [&](auto encode) { return thrown_error(encode).code(); };
  EXPECT_EQ(code([&] { tokenizer.encode(text, false, &cancel); }), ErrorCode::kInterrupted);
  EXPECT_EQ(code([&] { text_prompt(tokenizer, text, true, &cancel); }), ErrorCode::kInterrupted);
  const ContentPart part{text};
  EXPECT_EQ(code([&] {
              text_prompt(tokenizer, {&part, 1}, false, &cancel);
            }),
            ErrorCode::kInterrupted);
  // From another thread, half way.
  const auto start = std::chrono::steady_clock::now();
  tokenizer.encode(text);
  const auto whole = std::chrono::steady_clock::now() - start;
  cancel = false;
  std::jthread other([&] {
    std::this_thread::sleep_for(whole / 20);
    cancel = true;
  });
  EXPECT_EQ(code([&] {
              for (int i = 0; i < 20; ++i) tokenizer.encode(text, false, &cancel);
            }),
            ErrorCode::kInterrupted);
}

TEST(Cancel, OfAUsersTurnAddsNothing) {
  const Model model = Model::load(kText, {.vision = kVision});
  Session session(model, {.context = 512});
  const std::atomic<bool> cancel{true};
  const std::vector<std::uint8_t> grey(std::size_t{3} * 32 * 32, 128);
  const std::vector<Image> images{Image::from_rgb(32, 32, grey)};
  const Error error = thrown_error([&] { session.add_user("Hi", images, {}, {}, &cancel); });
  EXPECT_EQ(error.code(), ErrorCode::kInterrupted);
  EXPECT_EQ(session.position(), 0);
}

TEST(Cancel, StopsDecoding) {
  const std::atomic<bool> cancel{true};
  for (const char* name : {"hopper.jpg", "china_png.png"}) {
    const std::string path = test_data(std::string("vision/images/") + name);
    EXPECT_EQ(thrown_error([&] { Image::load(path, {.cancel = &cancel}); }).code(),
              ErrorCode::kInterrupted);
  }
}

/// What the decoders of formats do with a cancel that is set behind its header.
TEST(Cancel, StopsBetweenRows) {
  const std::atomic<bool> cancel{true};
  int tried = 0;
  const std::pair<const char*, DecodedPicture (*)(const EncodedPicture&)> formats[] = {
      {".jpg", decode_jpeg},
      {".bmp", decode_bmp},
      {".gif", decode_gif},
#ifdef LAPIDARY_TIFF
      {".tif", decode_tiff},
#endif
      {".webp", decode_webp}};
  for (const auto& entry : std::filesystem::directory_iterator(test_data("vision/decode"))) {
    for (const auto& format : formats) {
      if (entry.path().extension() != format.first) continue;
      const auto decode = format.second;
      std::ifstream in(entry.path(), std::ios::binary);
      const std::string bytes((std::istreambuf_iterator<char>(in)), {});
      const std::string name = entry.path().filename().string();
      const std::span data(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
      try {
        decode({data, name});
      } catch (const Error&) {
        continue;  // One that is damaged.
      }
      const Error error = thrown_error([&] { decode({data, name, true, 0, &cancel}); });
      EXPECT_EQ(error.code(), ErrorCode::kInterrupted) << error.what();
      ++tried;
    }
  }
  EXPECT_GT(tried, 3);
}

}  // namespace
}  // namespace lapidary::testing
