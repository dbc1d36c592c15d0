// Everything that starts something, with each of its steps failing in turn: memory, reads, threads.
// What comes out is an Error, and nothing stays behind.

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include "base/boundary.h"
#include "failing_allocations.h"
#include "failing_threads.h"
#include "model/config.h"
#include "model/decoder.h"
#include "model_fixture.h"
#include "test_data.h"
#include "vision/vision_weights.h"
#include "vision_builder.h"
#include "watched_reads.h"

namespace lapidary::testing {
namespace {

using injection::FailAllocation;
using injection::Failing;
using injection::Where;

const std::string kText = test_data("tiny-gemma3-text-bf16.gguf");

/// A vision file that is encoded in milliseconds.
const std::string& vision_file() {
  static const test::TempFile file(test::tiny_vision().build());
  static const std::string path = file.path();
  return path;
}

/// Made before, so that what fails is the library's.
const ModelOptions& options(int threads) {
  static const ModelOptions all[] = {{.threads = 1, .vision = vision_file()},
                                     {.threads = 2, .vision = vision_file()},
                                     {.threads = 3, .vision = vision_file()},
                                     {.threads = 4, .vision = vision_file()}};
  return all[threads - 1];
}

Model load(int threads = 1) { return Model::load(kText, options(threads)); }

Image grey_picture() {
  const std::vector<std::uint8_t> grey(std::size_t{3} * 32 * 32, 128);
  return Image::from_rgb(32, 32, grey);
}

/// Runs `body` with allocation `number` failing. False: there was none that could fail.
bool fails_cleanly(const std::function<void()>& body, long number, Failing how,
                   Where where = Where::kHere) {
  std::optional<Error> error;
  bool other = false;
  {
    const FailAllocation fail(number, how, where);
    try {
      body();
    } catch (const Error& caught) {
      error = caught;
    } catch (...) {
      other = true;
    }
  }
  EXPECT_FALSE(other) << "allocation " << number << ": no Error";
  if (error) {
    EXPECT_EQ(error->code(), ErrorCode::kMemory)
        << "allocation " << number << ": " << error->what();
  }
  return injection::failed > 0;
}

/// Runs `body`, after which as much is taken as before. A thread that a load has left behind takes
/// some until a later one joins it.
void expect_given_back(const std::function<void()>& body, long before) {
  for (int i = 0; i < 100; ++i) {
    body();
    if (injection::live == before) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(injection::live, before) << "something was not given back";
}

/// Lets each allocation of `body` fail in turn, alone; and some with all behind them.
void fail_each(const std::function<void()>& body) {
  constexpr long kStep = LAPIDARY_FAILS_THREADS != 0 ? 1 : 4;  // Sanitizers are slow.
  body();
  const long before = injection::live;
  long number = 0;
  while (fails_cleanly(body, number, Failing::kOne)) number += kStep;
  EXPECT_GT(number, 0);
  for (number = 0; fails_cleanly(body, number, Failing::kAllBehind);) number += 5 * kStep;
  expect_given_back(body, before);
}

TEST(Allocation, OfALoad) {
  fail_each([] { load(); });
}

/// The same on all other threads, whose share of the work is never the same. Without the one that
/// builds SentencePiece, which does not stand a lack of memory.
void fail_elsewhere(const std::function<void()>& body) {
  body();
  const long before = injection::live;
  for (long number = 0; number < 20; ++number) {
    for (const Failing how : {Failing::kOne, Failing::kAllBehind})
      fails_cleanly(body, number, how, Where::kElsewhere);
  }
  expect_given_back(body, before);
}

TEST(Allocation, OfWeights) {
  const std::unique_ptr<WeightSource> source = open_source(kText, Content::kText);
  const Config config = read_config(*source);
  const std::unique_ptr<WeightSource> vision = open_source(vision_file(), Content::kVision);
  const VisionConfig vision_config = read_vision_config(*vision);
  Team team(3);
  const auto load_text = [&] {
    at_boundary([&] { load_weights(*source, config, *kernels::best(), team, {}); });
  };
  const auto load_vision = [&] {
    at_boundary([&] { load_vision_weights(*vision, vision_config, *kernels::best(), team, {}); });
  };
  fail_each(load_text);
  fail_each(load_vision);
  fail_elsewhere(load_text);
  fail_elsewhere(load_vision);
}

TEST(Allocation, OfASession) {
  const Model model = load();
  fail_each([&] { Session(model, {.context = 64, .threads = 2, .draft = model}); });
}

TEST(Allocation, OfAnEncoder) {
  const Model model = load();
  fail_each([&] { ImageEncoder(model, {.threads = 2}); });
}

// Nothing that encodes a text: SentencePiece does not stand it.
TEST(Allocation, OfUse) {
  const Model model = load();
  const Image picture = grey_picture();
  const Tokenizer& tokenizer = model.tokenizer();
  const std::span<const TokenId> ids = std::span(tiny_ids()).first(20);
  Session session(model, {.context = 512, .threads = 2});
  fail_each([&] {
    session.clear();
    session.append(ids);
    session.generate({.max_tokens = 4});
    session.logits();
  });
  session.clear();
  session.append(ids);
  fail_each([&] { session.reply({.max_tokens = 4}).begin(); });
  fail_each([&] { tokenizer.decode(ids); });
  fail_each([&] { inspect(kText); });
  fail_each([&] { plan_memory(kText, options(1)); });
  for (const char* name : {"tiny_5x3.png", "hopper.jpg"}) {
    const std::string path = test_data(std::string("vision/images/") + name);
    fail_each([&] { Image::load(path); });
  }
  fail_each([&] { encoder_input(picture, {0, 0, 32, 32}, 64, 2); });
}

TEST(Allocation, OfAnEncoding) {
  const ModelOptions cached{.threads = 1, .vision = vision_file()};
  ModelOptions uncached = cached;
  uncached.image_cache_bytes = 0;
  const Image picture = grey_picture();
  ImageEncoder encoder(Model::load(kText, uncached), {.threads = 2});
  fail_each([&] { encoder.encode(picture); });
  // A cache that could not take something in is as good as before.
  ImageEncoder other(Model::load(kText, cached), {.threads = 1});
  other.load();
  for (long number = 0; number < 100; ++number) {
    fails_cleanly([&] { other.encode(picture); }, number, Failing::kOne);
  }
  EXPECT_EQ(other.encode(picture).cached, 1);
  EXPECT_EQ(*other.encode(picture).features[0].values, *encoder.encode(picture).features[0].values);
}

TEST(Reads, OfALoad) {
  const auto count = [](const std::function<void()>& body) {
    injection::reads = 0;
    body();
    return injection::reads.load();
  };
  const auto expect_refused = [](const std::function<void()>& body, int number) {
    injection::reads = 0;
    injection::failing_read = number;
    const Error error = thrown_error(body);
    injection::failing_read = -1;
    EXPECT_EQ(error.code(), ErrorCode::kFile) << error.what();
    EXPECT_TRUE(contains(error.what(), "cannot be read")) << error.what();
  };
  const int all = count([] { load(2); });
  for (int number = 0; number < all; ++number) expect_refused([] { load(2); }, number);
  const Model model = load();
  const int vision = count([] { ImageEncoder(load()).load(); }) - count([] { load(); });
  ImageEncoder encoder(model, {.threads = 2});
  for (int number = 0; number < vision; ++number) expect_refused([&] { encoder.load(); }, number);
  encoder.load();
}

TEST(Threads, OfALoad) {
  if (LAPIDARY_FAILS_THREADS == 0) GTEST_SKIP() << "the sanitizer makes the threads";
  load(4);
  const long before = injection::live;
  for (int possible = 0; possible < 3; ++possible) {
    const injection::OnlyThreads only(possible);
    EXPECT_EQ(thrown_error([] { load(4); }).code(), ErrorCode::kFailed);
  }
  expect_given_back([] { load(4); }, before);
}

}  // namespace
}  // namespace lapidary::testing
