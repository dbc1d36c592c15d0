#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/sha256.h"

namespace {

using lapidary::kernels::Sha256;
using lapidary::kernels::Sha256Blocks;

std::vector<std::byte> bytes_of(const std::string& text) {
  std::vector<std::byte> out;
  for (const char c : text) out.push_back(static_cast<std::byte>(c));
  return out;
}

std::string hex(Sha256& sha) {
  std::uint8_t hash[Sha256::kHashBytes];
  sha.finish(hash);
  std::string out;
  for (const std::uint8_t byte : hash) {
    out += "0123456789abcdef"[byte >> 4];
    out += "0123456789abcdef"[byte & 15];
  }
  return out;
}

std::string hash(Sha256Blocks blocks, const std::vector<std::byte>& data) {
  Sha256 sha(blocks);
  sha.add(data.data(), data.size());
  return hex(sha);
}

std::vector<Sha256Blocks> all() {
  return {lapidary::kernels::sha256_blocks_scalar, lapidary::kernels::sha256_blocks()};
}

// The examples published with FIPS 180-4, and the empty message.
TEST(Sha256, VectorsOfTheStandard) {
  for (const Sha256Blocks blocks : all()) {
    EXPECT_EQ(hash(blocks, {}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(hash(blocks, bytes_of("abc")),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(hash(blocks, bytes_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    EXPECT_EQ(hash(blocks, bytes_of("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
                                    "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu")),
              "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  }
}

TEST(Sha256, AMillionTimesA) {
  const std::vector<std::byte> data(1'000'000, std::byte{'a'});
  for (const Sha256Blocks blocks : all())
    EXPECT_EQ(hash(blocks, data),
              "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Every length around one and two blocks, given in one piece, byte by byte, and in odd pieces.
TEST(Sha256, PiecesDoNotMatter) {
  for (std::size_t length = 0; length <= 200; ++length) {
    std::vector<std::byte> data;
    for (std::size_t i = 0; i < length; ++i)
      data.push_back(static_cast<std::byte>(i * 37 + length));
    const std::string whole = hash(lapidary::kernels::sha256_blocks_scalar, data);
    EXPECT_EQ(hash(lapidary::kernels::sha256_blocks(), data), whole) << length;
    for (const std::size_t piece : {1U, 7U, 63U, 64U, 65U}) {
      Sha256 sha;
      for (std::size_t at = 0; at < length; at += piece)
        sha.add(data.data() + at, std::min(piece, length - at));
      EXPECT_EQ(hex(sha), whole) << length << " by " << piece;
    }
  }
}

}  // namespace
