// Memory goes back to the system with a model: a host that is done with the library is as
// large as it was.

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "model_fixture.h"
#include "resident.h"

#if defined(__GLIBC__) && defined(__linux__)

namespace lapidary::testing {
namespace {

using test::status_bytes;

constexpr std::uint64_t kMebibyte = std::uint64_t{1} << 20;

std::uint64_t resident() { return status_bytes("VmRSS"); }

/// Loads `path`, answers in two sessions, and lets all of it go.
void use_model(const std::string& path) {
  const Model model = Model::load(path, {.threads = 2});
  for (int i = 0; i < 2; ++i) {
    Session session(model, {.context = 256, .threads = 2});
    session.append(model.tokenizer().encode("The capital of France is"));
    session.generate({.max_tokens = 4, .sampling = {.temperature = 0}});
  }
}

/// The first use of a program's code and of other libraries' tables takes memory once.
void warm_up() { use_model(test_data("tiny-gemma3-text-bf16.gguf")); }

void expect_all_given_back(const std::string& path, int loads) {
  if (test::kSanitized || resident() == 0) GTEST_SKIP() << "a sanitizer, or no /proc";
  warm_up();
  const std::uint64_t before = resident();
  std::vector<std::uint64_t> after;
  for (int i = 0; i < loads; ++i) {
    use_model(path);
    after.push_back(resident());
  }
  for (const std::uint64_t bytes : after) {
    EXPECT_LT(bytes, before + 5 * kMebibyte);
    ::testing::Test::RecordProperty("kept_kib",
                                    static_cast<int>((bytes - std::min(bytes, before)) >> 10));
  }
  // Flat: what the last half keeps is not more than what the first half kept.
  EXPECT_LT(after.back(), after[after.size() / 2] + kMebibyte);
}

TEST(MemoryReturn, OfTheTinyModel) {
  expect_all_given_back(test_data("tiny-gemma3-text-bf16.gguf"), 20);
}

TEST(MemoryReturn, OfTheRealModel) {
  if (real_model_path() == nullptr) GTEST_SKIP() << "LAPIDARY_TEST_MODEL is not set";
  expect_all_given_back(real_model_path(), 20);
}

// The second model may go first or last.
TEST(MemoryReturn, OfTwoModelsAtOnce) {
  if (test::kSanitized || resident() == 0) GTEST_SKIP() << "a sanitizer, or no /proc";
  const char* const real = real_model_path();
  const std::string path = real != nullptr ? real : test_data("tiny-gemma3-text-bf16.gguf");
  warm_up();
  const std::uint64_t before = resident();
  for (const bool first_goes_first : {true, false}) {
    std::optional<Model> first = Model::load(path, {.threads = 2});
    std::optional<Model> second = Model::load(path, {.threads = 2});
    (first_goes_first ? first : second).reset();
    Session((first_goes_first ? second : first).value(), {.context = 64})
        .append(std::span(tiny_ids()).first(8));
    first.reset();
    second.reset();
    EXPECT_LT(resident(), before + 5 * kMebibyte);
  }
}

// A load that is given up or refused leaves nothing either.
TEST(MemoryReturn, OfALoadThatFails) {
  if (test::kSanitized || resident() == 0) GTEST_SKIP() << "a sanitizer, or no /proc";
  if (real_model_path() == nullptr) GTEST_SKIP() << "LAPIDARY_TEST_MODEL is not set";
  warm_up();
  const std::uint64_t before = resident();
  for (int i = 0; i < 4; ++i) {
    thrown_error([] {
      Model::load(real_model_path(),
                  {.progress = [](auto, auto) { throw Error(ErrorCode::kFailed, "enough"); }});
    });
  }
  // What such a load has left to its thread goes when that has ended.
  for (int i = 0; i < 600 && resident() > before + 5 * kMebibyte; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_LT(resident(), before + 5 * kMebibyte);
}

}  // namespace
}  // namespace lapidary::testing

#endif
