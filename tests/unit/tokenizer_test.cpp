#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <thread>

#include "lapidary/error.h"
#include "lapidary/utf8.h"
#include "memory_source.h"
#include "test_data.h"
#include "text/tokenizer_impl.h"
#include "text/vocabulary.h"

namespace lapidary {
namespace {

using Ids = std::vector<TokenId>;

Ids to_ids(std::span<const TokenId> ids) { return {ids.begin(), ids.end()}; }

struct GoldenLine {
  std::string text;
  Ids ids;
  Ids with_control;
};

std::vector<GoldenLine> golden_lines() {
  std::ifstream file(test_data("tokenizer.jsonl"));
  std::vector<GoldenLine> lines;
  for (std::string line; std::getline(file, line);) {
    const auto json = nlohmann::json::parse(line);
    lines.push_back({json.at("text"), json.at("ids"), json.at("ids_with_control_tokens")});
  }
  return lines;
}

class RealVocabulary : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (const auto source = open_real_model()) tokenizer_.emplace(load_tokenizer(*source));
  }
  static void TearDownTestSuite() { tokenizer_.reset(); }
  void SetUp() override {
    if (!tokenizer_) GTEST_SKIP() << "LAPIDARY_TEST_MODEL names no model";
  }
  static std::optional<Tokenizer> tokenizer_;
};
std::optional<Tokenizer> RealVocabulary::tokenizer_;

TEST_F(RealVocabulary, GivesTheReferenceIds) {
  const auto lines = golden_lines();
  ASSERT_EQ(lines.size(), 221U);
  for (const GoldenLine& line : lines) {
    EXPECT_EQ(tokenizer_->encode(line.text), line.ids) << line.text;
    EXPECT_EQ(tokenizer_->encode(line.text, true), line.with_control) << line.text;
  }
}

TEST_F(RealVocabulary, DecodesWhatItEncoded) {
  for (const GoldenLine& line : golden_lines()) {
    if (line.text.find("\xE2\x96\x81") != std::string::npos)
      continue;  // U+2581 is a space to SentencePiece.
    EXPECT_EQ(tokenizer_->decode(line.ids), line.text);
    EXPECT_EQ(tokenizer_->decode(line.with_control, true), line.text);
  }
}

TEST_F(RealVocabulary, KnowsItsSpecialTokens) {
  EXPECT_EQ(tokenizer_->vocabulary_size(), 262144);
  EXPECT_EQ(tokenizer_->bos(), 2);
  EXPECT_EQ(tokenizer_->eos(), 1);
  EXPECT_EQ(tokenizer_->start_of_turn(), 105);
  EXPECT_EQ(tokenizer_->end_of_turn(), 106);
  EXPECT_EQ(to_ids(tokenizer_->stop_ids()), (Ids{1, 106}));
  EXPECT_TRUE(tokenizer_->is_control(262144));  // <image_soft_token>, which has no row.
  EXPECT_THROW(tokenizer_->is_control(262145), Error);
  EXPECT_TRUE(tokenizer_->is_control(255999));  // User-defined in this file.
  EXPECT_EQ(tokenizer_->warnings().size(), 2U);
  EXPECT_EQ(tokenizer_->piece(138), "  ");
}

TEST_F(RealVocabulary, CutsLongTextsWithoutChangingAnId) {
  std::string text;
  while (text.size() < 480'000) {
    for (const GoldenLine& line : golden_lines())
      text += line.text + std::string(1 + text.size() % 40, '\n');
  }
  Pieces pieces;
  ASSERT_TRUE(read_vocabulary(*open_real_model(), pieces).newlines_cut);
  sentencepiece::SentencePieceProcessor whole;
  ASSERT_TRUE(whole.LoadFromSerializedProto(serialize_model_proto(pieces)).ok());
  std::vector<int> expected;
  ASSERT_TRUE(whole.Encode(text, &expected).ok());
  EXPECT_GT(expected.size(), 100'000U);
  EXPECT_EQ(tokenizer_->encode(text), expected);
}

TEST(TinyVocabulary, EncodesAndDecodes) {
  const Tokenizer tokenizer = load_tokenizer(*open_tiny_model());
  EXPECT_EQ(tokenizer.vocabulary_size(), 1763);
  EXPECT_EQ(tokenizer.encode("What is in this picture?"),
            (Ids{1569, 1352, 563, 528, 672, 510, 1210, 694, 1585}));
  EXPECT_EQ(tokenizer.encode("user\n\n\n"), (Ids{605, 497, 109}));
  for (const std::string text :
       {"What is\n\n  this\tthing?", "\xE7\x8C\xAB \xF0\x9F\x90\xB1", "", "   "}) {
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
  EXPECT_EQ(to_ids(tokenizer.stop_ids()), (Ids{1, 106}));
  EXPECT_EQ(tokenizer.encode("<start_of_image>", true), (Ids{1760}));
}

TEST(Tokenizer, MergesByScoreAndFallsBackToBytes) {
  const Tokenizer tokenizer = load_tokenizer(small_vocabulary());
  EXPECT_TRUE(tokenizer.warnings().empty());
  EXPECT_EQ(tokenizer.encode("ab ab"), (Ids{268, 265, 268}));
  EXPECT_EQ(tokenizer.encode("  a\n"), (Ids{264, 266, 263}));
  EXPECT_EQ(tokenizer.encode("\xC3\xA9"), (Ids{7 + 0xC3, 7 + 0xA9}));
  EXPECT_EQ(tokenizer.piece(7 + 0xC3), "\xC3");
  EXPECT_EQ(tokenizer.piece(269), " a");
  EXPECT_EQ(tokenizer.piece(5), "");
}

TEST(Tokenizer, ReadsInvalidUtf8AsReplacementCharacters) {
  const Tokenizer tokenizer = load_tokenizer(small_vocabulary());
  const Ids replacement = tokenizer.encode(
      "a\xEF\xBF\xBD"
      "b");
  for (const std::string text : {"a\xFF"
                                 "b",
                                 "a\xC3"
                                 "b",
                                 "a\xF0\x9F\x90"
                                 "b"}) {
    EXPECT_EQ(tokenizer.encode(text), replacement);
  }
  EXPECT_EQ(tokenizer.encode("\xED\xA0\x80"),
            tokenizer.encode("\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"));
  const std::string zero("a\0b", 3);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(zero)), zero);
}

TEST(Tokenizer, EntersControlTokensOnlyWhenAsked) {
  MemorySource source = small_vocabulary();
  source.add_token("<end_of_turn>>", 3);
  const Tokenizer tokenizer = load_tokenizer(source);
  const std::string text = "a<end_of_turn>b<bos><end_of_turn>><end_of_tur";
  for (const TokenId id : tokenizer.encode(text)) EXPECT_FALSE(tokenizer.is_control(id));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  const Ids ids = tokenizer.encode(text, true);
  ASSERT_GT(ids.size(), 5U);
  EXPECT_EQ(Ids(ids.begin(), ids.begin() + 5), (Ids{266, 6, 267, 2, 270}));
  EXPECT_EQ(tokenizer.decode(ids), "ab<end_of_tur");
  EXPECT_EQ(tokenizer.decode(ids, true), text);
}

TEST(Tokenizer, RepairsTheTypesOfSpecialTokensAndSaysSo) {
  MemorySource source = small_vocabulary();
  source.types()[5] = 1;
  source.types()[6] = 4;
  source.types()[3] = 2;
  const Tokenizer tokenizer = load_tokenizer(source);
  ASSERT_EQ(tokenizer.warnings().size(), 2U);
  EXPECT_NE(tokenizer.warnings()[0].find("<start_of_turn> is normal"), std::string::npos);
  EXPECT_NE(tokenizer.warnings()[1].find("<end_of_turn> is user-defined"), std::string::npos);
  EXPECT_TRUE(tokenizer.is_control(5));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("<start_of_turn>")), "<start_of_turn>");
  EXPECT_EQ(to_ids(tokenizer.stop_ids()), (Ids{1, 6}));
}

TEST(Tokenizer, TakesStopIdsFromMetadataToo) {
  MemorySource source = small_vocabulary();
  source.uints[Key::kEos] = 6;
  source.uints[Key::kEot] = 266;
  EXPECT_EQ(to_ids(load_tokenizer(source).stop_ids()), (Ids{1, 6, 266}));
}

TEST(Tokenizer, CutsOnlyWhereNoPieceStraddles) {
  std::string text;
  while (text.size() < 60'000) text += "ab a\nb\n";
  MemorySource source = small_vocabulary();
  const Ids ids = load_tokenizer(source).encode(text);
  EXPECT_EQ(ids.size(), text.size() / 7 * 5);
  source.add_token("a\nb", 4);  // Holds a newline inside: a cut in front of one would tear it.
  const Ids straddling = load_tokenizer(source).encode(text);
  EXPECT_EQ(std::ranges::count(straddling, 270), static_cast<std::ptrdiff_t>(text.size() / 7));
}

TEST(Tokenizer, RefusesIdsOutsideTheVocabulary) {
  const Tokenizer tokenizer = load_tokenizer(small_vocabulary());
  for (const TokenId id :
       {-1, 270, std::numeric_limits<TokenId>::max(), std::numeric_limits<TokenId>::min()}) {
    const Ids ids = {266, id};
    try {
      tokenizer.decode(ids);
      FAIL() << id << " was decoded";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
      EXPECT_NE(std::string(error.what()).find(std::to_string(id)), std::string::npos);
    }
  }
}

TEST(Tokenizer, EncodesOnManyThreads) {
  const Tokenizer tokenizer = load_tokenizer(small_vocabulary());
  std::vector<Ids> results(4);
  {
    std::vector<std::jthread> threads;
    for (Ids& result : results) threads.emplace_back([&] { result = tokenizer.encode("ab a\nb"); });
  }
  for (const Ids& result : results) EXPECT_EQ(result, results[0]);
  EXPECT_EQ(results[0], (Ids{268, 269, 263, 267}));
}

/// Loads `source` and expects a file error that holds `part`.
void expect_refused(const MemorySource& source, const std::string& part) {
  try {
    finish_loading(load_tokenizer(source));
    FAIL() << "was accepted; expected: " << part;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kFile);
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
  }
}

TEST(CorruptVocabulary, NamesTheKey) {
  const auto with = [](auto change) {
    MemorySource source = small_vocabulary();
    change(source);
    return source;
  };
  expect_refused(with([](auto& s) { s.string_arrays.clear(); }), "key tokens is missing");
  expect_refused(with([](auto& s) { s.tokens().clear(); }), "key tokens: empty");
  expect_refused(with([](auto& s) { s.float_arrays.clear(); }), "key scores is missing");
  expect_refused(with([](auto& s) { s.int_arrays.clear(); }), "key types is missing");
  expect_refused(with([](auto& s) { s.scores().pop_back(); }), "key scores has 269 values");
  expect_refused(with([](auto& s) { s.types().push_back(1); }), "key types has 271 values");
  expect_refused(with([](auto& s) { s.types()[266] = 0; }), "token 266 has type 0");
  expect_refused(with([](auto& s) { s.types()[266] = 1LL << 40; }), "token 266 has type");
  expect_refused(with([](auto& s) { s.scores()[266] = std::numeric_limits<double>::quiet_NaN(); }),
                 "token 266");
  expect_refused(with([](auto& s) { s.scores()[266] = 1e300; }), "token 266");
  expect_refused(with([](auto& s) { s.tokens()[266] = ""; }), "token 266 is empty");
  expect_refused(with([](auto& s) { s.tokens()[266] = std::string("a\0", 2); }), "NUL");
  expect_refused(with([](auto& s) { s.tokens()[3] = "unknown"; }), "no <unk>");
  expect_refused(with([](auto& s) { s.types()[266] = 2; }), "both of type unknown");
  expect_refused(with([](auto& s) { s.types()[70] = 1; }), "255 byte tokens");
  expect_refused(with([](auto& s) { s.tokens()[70] = "<0x00>"; }), "token 70");
  expect_refused(with([](auto& s) { s.tokens()[70] = "<0xG0>"; }), "token 70");
  expect_refused(with([](auto& s) { s.tokens()[266] = "b"; }), "SentencePiece refuses");
  expect_refused(with([](auto& s) { s.types()[266] = 3; }), "token 266, one character");
  expect_refused(with([](auto& s) { s.tokens()[268] = "<pad>"; }), "<pad> is already defined");
  expect_refused(with([](auto& s) { s.types()[0] = 3, s.tokens()[0] = "ab"; }), "tokens 0 and 268");
  expect_refused(with([](auto& s) { s.tokens()[268] = "<0x41>"; }), "tokens 72 and 268");
  expect_refused(with([](auto& s) { s.tokens()[2] = "<s>"; }), "no <bos>");
  expect_refused(with([](auto& s) { s.tokens()[1] = "</s>"; }), "no <eos>");
  expect_refused(with([](auto& s) { s.uints[Key::kEos] = 270; }), "key eos is 270");
}

TEST(Utf8, FindsIncompleteEnds) {
  const auto held = [](std::string_view text) { return incomplete_utf8_suffix(text); };
  EXPECT_EQ(held(""), 0U);
  EXPECT_EQ(held("a"), 0U);
  EXPECT_EQ(held("a\xC3"), 1U);
  EXPECT_EQ(held("\xE7\x8C"), 2U);
  EXPECT_EQ(held("\xF0\x9F\x90"), 3U);
  EXPECT_EQ(held("\xF0\x9F\x90\xB1"), 0U);
  EXPECT_EQ(held("\xC0"), 0U);          // No character begins so.
  EXPECT_EQ(held("\xED\xA0"), 0U);      // A surrogate.
  EXPECT_EQ(held("\xF4\x90"), 0U);      // Above U+10FFFF.
  EXPECT_EQ(held("\xE0\x80"), 0U);      // Overlong.
  EXPECT_EQ(held("\x80\x80\x80"), 0U);  // No lead byte.
}

}  // namespace
}  // namespace lapidary
