#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/weight_source.h"
#include "test_data.h"
#include "text/cuts.h"
#include "text/vocabulary.h"

namespace lapidary {

/// Metadata made by hand, for tests that need a vocabulary no file has.
class MemorySource : public WeightSource {
 public:
  std::map<Key, std::uint64_t> uints;
  std::map<Key, std::string> strings;
  std::map<Key, PagedVector<std::string>> string_arrays;
  std::map<Key, PagedVector<double>> float_arrays;
  std::map<Key, PagedVector<std::int64_t>> int_arrays;

  const TensorInfo* find(const TensorName&) const override { return nullptr; }
  std::span<const TensorInfo> tensors() const override { return {}; }
  void read(const TensorInfo&, std::uint64_t, std::span<std::byte>) const override {}
  std::optional<std::uint64_t> find_uint(Key key) const override { return get(uints, key); }
  std::optional<double> find_float(Key) const override { return std::nullopt; }
  std::optional<std::string> find_string(Key key) const override { return get(strings, key); }
  std::optional<PagedVector<std::string>> find_strings(Key key) const override {
    return get(string_arrays, key);
  }
  std::optional<PagedVector<double>> find_floats(Key key) const override {
    return get(float_arrays, key);
  }
  std::optional<PagedVector<std::int64_t>> find_ints(Key key) const override {
    return get(int_arrays, key);
  }
  std::optional<ArraySize> array_size(Key key) const override {
    const auto count = [key](const auto& arrays) {
      const auto found = arrays.find(key);
      return found == arrays.end() ? std::nullopt : std::optional(found->second.size());
    };
    const std::optional<std::size_t> entries[] = {count(string_arrays), count(float_arrays),
                                                  count(int_arrays)};
    for (const std::optional<std::size_t>& n : entries)
      if (n) return ArraySize{*n, 0};
    return std::nullopt;
  }

  std::string name(Key key) const override {
    const std::map<Key, std::string> names = {
        {Key::kTokens, "tokens"},    {Key::kTokenScores, "scores"},
        {Key::kTokenTypes, "types"}, {Key::kEos, "eos"},
        {Key::kBos, "bos"},
    };
    return names.at(key);
  }
  std::string where(Key key) const override { return "by hand: key " + name(key); }
  std::string where(const TensorName&) const override { return "by hand: a tensor"; }
  std::string where(const TensorInfo& tensor) const override { return "by hand: " + tensor.name; }
  std::vector<std::string> files() const override { return {}; }
  std::uint64_t file_bytes() const override { return 0; }

  PagedVector<std::string>& tokens() { return string_arrays[Key::kTokens]; }
  PagedVector<double>& scores() { return float_arrays[Key::kTokenScores]; }
  PagedVector<std::int64_t>& types() { return int_arrays[Key::kTokenTypes]; }

  void add_token(const std::string& text, std::int64_t type, double score = 0) {
    tokens().push_back(text);
    scores().push_back(score);
    types().push_back(type);
  }

 private:
  template <class Map>
  static std::optional<typename Map::mapped_type> get(const Map& map, Key key) {
    const auto found = map.find(key);
    if (found == map.end()) return std::nullopt;
    return found->second;
  }
};

/// A small vocabulary of Gemma's kind: ids 0 to 4 special, 5 and 6 the turn tokens, 7 to 262 the
/// bytes, then `\n` (263), two spaces (264), and the pieces "▁" (265), "a" (266), "b" (267), "ab"
/// (268), "▁a" (269).
inline MemorySource small_vocabulary() {
  MemorySource source;
  for (const char* name :
       {"<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"}) {
    source.add_token(name, 3);
  }
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  for (std::size_t byte = 0; byte < 256; ++byte) {
    source.add_token({'<', '0', 'x', kDigits[byte / 16], kDigits[byte % 16], '>'}, 6);
  }
  source.add_token("\n", 4);
  source.add_token("  ", 4);
  source.add_token("\xE2\x96\x81", 1, -3);
  source.add_token("a", 1, -4);
  source.add_token("b", 1, -5);
  source.add_token("ab", 1, -1);
  source.add_token(
      "\xE2\x96\x81"
      "a",
      1, -2);
  return source;
}

inline std::unique_ptr<WeightSource> open_tiny_model() {
  return open_source(test_data("tiny-gemma3-text-bf16.gguf"), Content::kText);
}

/// The real vocabulary, or nullptr where the model is not there.
inline std::unique_ptr<WeightSource> open_real_model() {
  const char* path = std::getenv("LAPIDARY_TEST_MODEL");
  return path == nullptr || *path == '\0' ? nullptr : open_source(path, Content::kText);
}

/// Cuts of pieces as a vocabulary makes them.
inline Cuts make_cuts(const Pieces& pieces, bool newlines) {
  const std::vector<std::string_view> texts(pieces.texts.begin(), pieces.texts.end());
  return Cuts(texts, pieces.types, newlines);
}

}  // namespace lapidary
