// Texts in parts have the ids of the whole: SentencePiece itself is asked, with vocabularies and
// texts at random, and with the real one.

#include "text/cuts.h"

#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "memory_source.h"
#include "text/vocabulary.h"

namespace lapidary {
namespace {

using Ids = std::vector<int>;
using Processor = sentencepiece::SentencePieceProcessor;

Ids encode(const Processor& processor, std::string_view text) {
  Ids ids;
  EXPECT_TRUE(processor.Encode(text, &ids).ok());
  return ids;
}

/// The ids of `text` cut as often as it may be, and how many parts that were.
Ids encode_in_parts(const Processor& processor, const Cuts& cuts, std::string_view text,
                    std::size_t& parts) {
  Ids ids;
  for (parts = 0; !text.empty(); ++parts) {
    const std::size_t cut = cuts.find(text, 1);
    const Ids part = encode(processor, text.substr(0, cut));
    ids.insert(ids.end(), part.begin(), part.end());
    text.remove_prefix(cut);
  }
  return ids;
}

constexpr std::string_view kLetters[] = {"a", "b", "c", " ", "\n", "\xE7\x8C\xAB", "\xE2\x96\x81"};

std::string random_text(std::mt19937& random, std::size_t length) {
  std::string text;
  for (std::size_t i = 0; i < length; ++i) text += kLetters[random() % std::size(kLetters)];
  return text;
}

/// The special and byte tokens, and some pieces of a few letters with scores of which some are
/// equal.
Pieces random_pieces(std::mt19937& random, bool unused) {
  Pieces pieces;
  MemorySource source = small_vocabulary();
  read_vocabulary(source, pieces);
  std::set<std::string> known;
  pieces.texts.resize(263);
  pieces.scores.resize(263);
  pieces.types.resize(263);
  for (auto count = 4 + random() % 24; count > 0; --count) {
    std::string text;
    for (const char c : random_text(random, 1 + random() % 4)) {
      if (c == ' ') {
        text += "\xE2\x96\x81";
      } else {
        text += c;
      }
    }
    if (!known.insert(text).second) continue;
    const auto kind = random() % 8;
    pieces.texts.push_back(text);
    pieces.scores.push_back(-static_cast<float>(random() % 10));
    pieces.types.push_back(kind == 0             ? TokenType::kUserDefined
                           : kind == 1 && unused ? TokenType::kUnused
                                                 : TokenType::kNormal);
  }
  return pieces;
}

void check_random(bool unused) {
  std::mt19937 random(7);
  std::size_t all_parts = 0;
  for (int round = 0; round < 300; ++round) {
    const Pieces pieces = random_pieces(random, unused);
    Processor processor;
    ASSERT_TRUE(processor.LoadFromSerializedProto(serialize_model_proto(pieces)).ok());
    const Cuts cuts = make_cuts(pieces, false);
    for (int i = 0; i < 20; ++i) {
      const std::string text = random_text(random, 1 + random() % 60);
      std::size_t parts = 0;
      ASSERT_EQ(encode_in_parts(processor, cuts, text, parts), encode(processor, text)) << text;
      all_parts += parts;
    }
  }
  EXPECT_GT(all_parts, 50'000U);
}

TEST(Cuts, ChangeNoIdOfAnyVocabulary) { check_random(false); }

TEST(Cuts, ChangeNoIdWhereSomePiecesAreUnused) { check_random(true); }

TEST(Cuts, AreAtCharactersAndNotBeforeTheFirst) {
  Pieces pieces;
  MemorySource source = small_vocabulary();
  read_vocabulary(source, pieces);
  const Cuts cuts = make_cuts(pieces, true);
  const std::string text = "\xE7\x8C\xAB\xE7\x8C\xAB ab a\nb";
  EXPECT_EQ(cuts.find(text, 0), 3U);
  EXPECT_EQ(cuts.find(text, 1), 3U);
  EXPECT_EQ(cuts.find(text, 3), 3U);
  EXPECT_EQ(cuts.find(text, 4), 6U);
  EXPECT_EQ(cuts.find(text, 7), 9U) << "\" a\" is a piece";
  EXPECT_EQ(cuts.find(text, text.size()), text.size());
  EXPECT_EQ(cuts.find(text, 1000), text.size());
  EXPECT_EQ(cuts.find("", 0), 0U);
  const std::string none(1000, ' ');
  EXPECT_EQ(cuts.find(none, 500), none.size()) << "two spaces are a piece";
}

TEST(Cuts, OfTheRealVocabularyAreFoundWithoutNewlines) {
  const std::unique_ptr<WeightSource> source = open_real_model();
  if (source == nullptr) GTEST_SKIP() << "LAPIDARY_TEST_MODEL is not set";
  Pieces pieces;
  read_vocabulary(*source, pieces);
  Processor processor;
  ASSERT_TRUE(processor.LoadFromSerializedProto(serialize_model_proto(pieces)).ok());
  const Cuts cuts = make_cuts(pieces, false);
  std::ifstream in(test_data("tokenizer.jsonl"));
  std::string text((std::istreambuf_iterator<char>(in)), {});
  std::ranges::replace(text, '\n', ' ');
  text.resize(text.rfind(' ', 200'000));
  std::size_t parts = 0;
  EXPECT_EQ(encode_in_parts(processor, cuts, text, parts), encode(processor, text));
  EXPECT_GT(parts, text.size() / 20);
  for (std::size_t at = 0; at < text.size(); at += 1000) EXPECT_LT(cuts.find(text, at), at + 1000);
}

}  // namespace
}  // namespace lapidary
