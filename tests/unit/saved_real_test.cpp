// Saved sessions of the real model: its windows, its packed weights, its head.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include "saved_session.h"

namespace lapidary::testing {
namespace {

double seconds_of(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class SavedReal : public ::testing::TestWithParam<KvType> {};

TEST_P(SavedReal, IsLoadedInATenthOfItsPrefill) {
  if (real_model_path() == nullptr) GTEST_SKIP() << "LAPIDARY_TEST_MODEL is not set";
  const char* const asked = std::getenv("LAPIDARY_TEST_TOKENS");
  const int tokens = asked == nullptr ? 1536 : std::atoi(asked);
  const Folder folder;
  const SessionOptions options{.context = tokens + 64, .kv = GetParam()};
  Prompts prompts(1);
  const std::vector<TokenId> ids = prompts.text(tokens), more = prompts.text(8);
  Session saved(real_model(), options), loaded(real_model(), options);
  const double prefill = seconds_of([&] { saved.append(ids); });
  const double save = seconds_of([&] { saved.save(folder.path("a")); });
  // Each into a session of its own; the best, since the disk may still be at work on the file.
  double load = seconds_of([&] { loaded.load(folder.path("a")); });
  for (int i = 0; i < 2; ++i) {
    Session other(real_model(), options);
    load = std::min(load, seconds_of([&] { other.load(folder.path("a")); }));
  }
  EXPECT_EQ(hash_bits(loaded.logits()), hash_bits(saved.logits()));
  EXPECT_EQ(hash_positions(loaded, more), hash_positions(saved, more));
  EXPECT_EQ(loaded.rewind(tokens / 2), saved.rewind(tokens / 2));
  EXPECT_EQ(hash_bits(loaded.logits()), hash_bits(saved.logits()));
  EXPECT_LT(load, prefill / 10);
  const double again = seconds_of([&] { loaded.load(folder.path("a")); });
  std::printf("%d tokens: prefill %.3f s, save %.3f s, load %.3f s, over another %.3f s, %.1f MB\n",
              tokens, prefill, save, load, again,
              static_cast<double>(std::filesystem::file_size(folder.path("a"))) / 1e6);
}

INSTANTIATE_TEST_SUITE_P(Kinds, SavedReal, ::testing::Values(KvType::kBf16, KvType::kInt8),
                         [](const auto& kind) {
                           return kind.param == KvType::kBf16 ? "bf16" : "int8";
                         });

}  // namespace
}  // namespace lapidary::testing
