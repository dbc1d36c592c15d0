#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "test_data.h"
#include "vision_fixture.h"

/// What the tests of prefixes on disk share.
namespace lapidary::testing {

/// `shared` ids of the text number `common`, then `own` ids of the text number `seed`.
inline Prompt text_from(std::size_t shared, unsigned common, std::size_t own, unsigned seed) {
  std::mt19937 first(common), then(seed + 1000);
  std::uniform_int_distribution<TokenId> id(300, 1500);
  Prompt prompt{{2}, {}};
  for (std::size_t i = 1; i < shared; ++i) prompt.ids.push_back(id(first));
  for (std::size_t i = 0; i < own; ++i) prompt.ids.push_back(id(then));
  return prompt;
}

/// A folder of its own for each test.
class PrefixFolders : public ::testing::Test {
 protected:
  PrefixFolders() {
    std::string name = (std::filesystem::temp_directory_path() / "prefixes-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~PrefixFolders() override { std::filesystem::remove_all(folder_); }

  std::string cache() const { return (folder_ / "cache").string(); }

  SessionOptions options(KvType kv = KvType::kBf16) const {
    return {.context = 4096, .threads = 1, .kv = kv, .prefix_cache = cache()};
  }

  /// Everything in the cache that is no folder.
  std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> found;
    if (!std::filesystem::exists(cache())) return found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(cache())) {
      if (!entry.is_directory()) found.push_back(entry.path());
    }
    std::sort(found.begin(), found.end());
    return found;
  }

  std::uintmax_t file_bytes() const {
    std::uintmax_t bytes = 0;
    for (const auto& file : files()) bytes += std::filesystem::file_size(file);
    return bytes;
  }

  std::filesystem::path folder_;
};

/// A prompt read by a session, and answered: what it ended on, drew, and took from elsewhere.
struct Reading {
  std::uint64_t logits = 0;
  std::vector<TokenId> drawn;
  int cached = 0;
  PrefixCacheStats stats;

  bool same_bits(const Reading& other) const {
    return logits == other.logits && drawn == other.drawn;
  }
};

/// By a session of its own, as a process would that asks once.
inline Reading read_prompt(const Prompt& prompt, const SessionOptions& options, int draw = 6) {
  Session session(vision_model(), options);
  session.append(prompt);
  Reading reading;
  reading.logits = hash_bits(session.logits());
  GenerateOptions wanted;
  wanted.max_tokens = draw;
  wanted.sampling.seed = 5;
  const Completion completion = session.generate(wanted);
  reading.drawn = completion.ids;
  reading.cached = completion.usage.cached_tokens;
  reading.stats = session.prefix_cache();
  return reading;
}

/// As it is without a cache.
inline Reading read_fresh(const Prompt& prompt, SessionOptions options) {
  options.prefix_cache.clear();
  return read_prompt(prompt, options);
}

}  // namespace lapidary::testing
