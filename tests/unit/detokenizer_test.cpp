#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <random>

#include "lapidary/error.h"
#include "lapidary/utf8.h"
#include "memory_source.h"
#include "text/tokenizer_impl.h"

namespace {
std::atomic<long> allocations{0};
}

// Every allocation of this program is counted.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace lapidary {
namespace {

constexpr TokenId kByte0 = 7;  // Of small_vocabulary().

TEST(Detokenizer, HoldsBackIncompleteCharacters) {
  Detokenizer detokenizer(load_tokenizer(small_vocabulary()));
  EXPECT_EQ(detokenizer.push(268), "ab");
  EXPECT_EQ(detokenizer.push(kByte0 + 0xF0), "");
  EXPECT_EQ(detokenizer.push(kByte0 + 0x9F), "");
  EXPECT_EQ(detokenizer.push(5), "");  // A control token in between has no bytes.
  EXPECT_EQ(detokenizer.push(kByte0 + 0x90), "");
  EXPECT_EQ(detokenizer.push(kByte0 + 0xB1), "\xF0\x9F\x90\xB1");
  EXPECT_EQ(detokenizer.push(269), " a");
  EXPECT_EQ(detokenizer.finish(), "");
}

TEST(Detokenizer, GivesBrokenCharactersAsTheyAre) {
  Detokenizer detokenizer(load_tokenizer(small_vocabulary()));
  EXPECT_EQ(detokenizer.push(kByte0 + 0xE7), "");
  EXPECT_EQ(detokenizer.push(266),
            "\xE7"
            "a");
  EXPECT_EQ(detokenizer.push(kByte0 + 0xFF), "\xFF");
  EXPECT_EQ(detokenizer.push(kByte0 + 0xE7), "");
  EXPECT_EQ(detokenizer.push(kByte0 + 0x8C), "");
  EXPECT_EQ(detokenizer.finish(), "\xE7\x8C");
  EXPECT_EQ(detokenizer.finish(), "");
  EXPECT_EQ(detokenizer.push(266), "a");
}

TEST(Detokenizer, RefusesIdsOutsideTheVocabulary) {
  Detokenizer detokenizer(load_tokenizer(small_vocabulary()));
  EXPECT_EQ(detokenizer.push(kByte0 + 0xC3), "");
  EXPECT_THROW(detokenizer.push(-1), Error);
  EXPECT_THROW(detokenizer.push(270), Error);
  EXPECT_EQ(detokenizer.push(kByte0 + 0xA9), "\xC3\xA9");  // The state is as it was.
}

/// Any ids: the pieces together are what decode() gives, each is whole characters where the whole
/// is, nothing is allocated.
void check_stream(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, bool valid) {
  Detokenizer detokenizer(tokenizer);
  std::string joined;
  joined.reserve(1 << 20);
  const long before = allocations;
  bool whole = true;
  for (const TokenId id : ids) {
    const std::string_view piece = detokenizer.push(id);
    whole = whole && !find_invalid_utf8(piece);
    joined += piece;
  }
  joined += detokenizer.finish();
  EXPECT_EQ(allocations, before);
  EXPECT_EQ(joined, tokenizer.decode(ids));
  if (valid) {
    EXPECT_TRUE(whole);
  }
}

TEST(Detokenizer, StreamsWhatDecodeGivesWithoutAllocating) {
  const Tokenizer tokenizer = load_tokenizer(*open_tiny_model());
  finish_loading(tokenizer);
  check_stream(
      tokenizer,
      tokenizer.encode("caf\xC3\xA9 \xE7\x8C\xAB "
                       "\xF0\x9F\x90\xB1\n\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x94\xAC end"),
      true);
  std::mt19937 random(7);
  std::uniform_int_distribution<TokenId> any(0, tokenizer.vocabulary_size() - 1);
  std::uniform_int_distribution<TokenId> bytes(0, 255);
  TokenId first_byte = 0;
  while (tokenizer.is_control(first_byte) ||
         tokenizer.piece(first_byte) != std::string_view("\0", 1))
    ++first_byte;
  for (int round = 0; round < 50; ++round) {
    std::vector<TokenId> ids(200);
    for (TokenId& id : ids) id = round % 2 == 0 ? any(random) : first_byte + bytes(random);
    check_stream(tokenizer, ids, false);
  }
}

TEST(Detokenizer, StreamsTheRealVocabulary) {
  const auto source = open_real_model();
  if (!source) GTEST_SKIP() << "LAPIDARY_TEST_MODEL names no model";
  const Tokenizer tokenizer = load_tokenizer(*source);
  finish_loading(tokenizer);
  std::vector<TokenId> ids(static_cast<std::size_t>(tokenizer.vocabulary_size()));
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>(i);
  const std::span<const TokenId> all = ids;
  for (std::size_t at = 0; at < ids.size(); at += 16384) {
    const auto part = all.subspan(at, 16384);
    check_stream(tokenizer, {part.begin(), part.end()}, false);
  }
}

}  // namespace
}  // namespace lapidary
