// No model file makes the process own more than twice its size and 64 MiB, and no picture more
// than its limit, whatever they claim to hold.

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "gguf_builder.h"
#include "model_fixture.h"
#include "resident.h"
#include "vision_builder.h"

namespace lapidary::testing {
namespace {

using test::GgufBuilder;
using test::number_bytes;
using test::Peak;
using test::TempFile;

constexpr std::uint64_t kMebibyte = std::uint64_t{1} << 20;

struct Huge {
  std::string name;
  std::function<GgufBuilder()> build;
  std::string says;  // Of the error; empty: it may load.
};

/// `count` tokens behind those of the tiny model, each made of its number.
GgufBuilder many_tokens(int count, int type, const std::string& behind = "") {
  GgufBuilder file = test::tiny_model();
  std::string tokens, types, scores;
  for (int i = 0; i < count; ++i) {
    tokens += test::string_bytes("t" + std::to_string(i) + behind);
    types += number_bytes(type);
    scores += number_bytes(-static_cast<float>(i));
  }
  const auto elements = static_cast<std::uint64_t>(count);
  file.set_array("tokenizer.ggml.tokens", 8, elements, tokens);
  file.set_array("tokenizer.ggml.scores", 6, elements, scores);
  file.set_array("tokenizer.ggml.token_type", 5, elements, types);
  return file;
}

/// The tiny model with an array of `count` bytes.
GgufBuilder long_array(const std::string& key, std::uint64_t count) {
  GgufBuilder file = test::tiny_model();
  file.set_array(key, 0, count, std::string(count, '\1'));
  return file;
}

GgufBuilder many_tensors(int count) {
  GgufBuilder file = test::tiny_model();
  file.alignment = 1;
  file.set_u32("general.alignment", 1);
  for (int i = 0; i < count; ++i) {
    const BlockType type = BlockType::kBF16;
    file.tensors.push_back({std::to_string(i), {1}, static_cast<std::uint32_t>(type), "\1\1", {}});
  }
  return file;
}

GgufBuilder many_keys(int count, std::size_t name, std::size_t value) {
  GgufBuilder file = test::tiny_model();
  for (int i = 0; i < count; ++i) {
    const std::string key = std::to_string(i) + std::string(name, 'k');
    file.keys.push_back({key, 8, test::string_bytes(std::string(value, 'v'))});
  }
  return file;
}

std::vector<Huge> huge_files() {
  return {
      {"TwoMillionTokens", [] { return many_tokens(2'000'000, 1); }, "2000000 tokens"},
      {"AMillionUserDefinedTokens", [] { return many_tokens(1'000'000, 4); }, "1000000 tokens"},
      {"TokensThatAreLong", [] { return many_tokens(20'000, 1, std::string(2000, 'x')); },
       "20000 tokens"},
      {"TokensThatFit", [] { return many_tokens(180'000, 1); }, "no <unk> token"},
      {"ATokenOf40Megabytes",
       [] {
         GgufBuilder file = many_tokens(300, 1);
         file.set_array("tokenizer.ggml.tokens", 8, 300,
                        test::string_bytes(std::string(40'000'000, 'x')) +
                            std::string(std::size_t{299} * 8, '\0'));
         return file;
       },
       "tokenizer.ggml.tokens"},
      {"TypesOfNoToken", [] { return long_array("tokenizer.ggml.token_type", 40'000'000); },
       "40000000 values"},
      {"ScoresOfNoToken", [] { return long_array("tokenizer.ggml.scores", 40'000'000); },
       "40000000 values"},
      {"PatternOfNoLayer",
       [] { return long_array("gemma3.attention.sliding_window_pattern", 40'000'000); },
       "one for each of the 6 layers"},
      {"AMillionTensors", [] { return many_tensors(600'000); }, "tensor count"},
      {"TensorsThatFit", [] { return many_tensors(65'000); }, ""},
      {"KeysWithLongNames", [] { return many_keys(600, 60'000, 8); }, ""},
      {"ManyKeys", [] { return many_keys(60'000, 8, 250); }, ""},
      {"ANameOf40Megabytes",
       [] {
         return GgufBuilder(test::tiny_model())
             .set_string("general.name", std::string(40'000'000, 'n'));
       },
       "general.name"},
      {"ATemplateOf40Megabytes",
       [] {
         return GgufBuilder(test::tiny_model())
             .set_string("tokenizer.chat_template", std::string(40'000'000, 'n'));
       },
       "tokenizer.chat_template"},
  };
}

class HugeFile : public ::testing::TestWithParam<Huge> {};

TEST_P(HugeFile, TakesAtMostTwiceItsSizeAnd64Mebibytes) {
  if (test::kSanitized) GTEST_SKIP() << "a sanitizer keeps what is freed";
  const TempFile file(GetParam().build().build());
  const std::uint64_t most = 2 * std::filesystem::file_size(file.path()) + 64 * kMebibyte;
  std::string said;
  const auto try_it = [&](const char* what, const std::function<void()>& act) {
    SCOPED_TRACE(what);
    const Peak peak;
    if (!peak.can_tell()) return;
    try {
      act();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kFile) << error.what();
      said += error.what() + std::string("\n");
    }
    EXPECT_LE(peak.bytes(), most);
    RecordProperty(what, static_cast<int>(peak.bytes() >> 20));
  };
  try_it("load", [&] { Model::load(file.path(), {.threads = 1}); });
  try_it("inspect", [&] { inspect(file.path()); });
  try_it("inspect_file", [&] { inspect_file(file.path()); });
  try_it("load_tokenizer", [&] { load_tokenizer(file.path()); });
  try_it("inspect_vision", [&] { thrown_error([&] { inspect_vision(file.path()); }); });
  EXPECT_TRUE(!Peak().can_tell() || contains(said, GetParam().says)) << said;
}
INSTANTIATE_TEST_SUITE_P(Each, HugeFile, ::testing::ValuesIn(huge_files()),
                         [](const auto& huge) { return huge.param.name; });

// The real vocabulary must not come under the rule, not even in a file without weights.
TEST(HugeFile, TheRealVocabularyIsReadFromAFileOfItsOwn) {
  if (real_model_path() == nullptr) GTEST_SKIP() << "LAPIDARY_TEST_MODEL is not set";
  std::ifstream in(real_model_path(), std::ios::binary);
  std::string header(std::size_t{16} << 20, '\0');
  in.read(header.data(), static_cast<std::streamsize>(header.size()));
  // Without tensors: their descriptions stand behind the keys.
  std::memset(header.data() + 8, 0, 8);
  const std::size_t first = std::min(
      {header.find("token_embd.weight"), header.find("output_norm.weight"), header.find("blk.0.")});
  ASSERT_NE(first, std::string::npos);
  const TempFile file(std::string_view(header).substr(0, first - 8));
  const std::uint64_t most = 2 * std::filesystem::file_size(file.path()) + 64 * kMebibyte;
  const Peak peak;
  const Tokenizer tokenizer = load_tokenizer(file.path());
  EXPECT_TRUE(!peak.can_tell() || peak.bytes() <= most) << peak.bytes();
  EXPECT_EQ(tokenizer.vocabulary_size(), real_model().tokenizer().vocabulary_size());
  EXPECT_EQ(tokenizer.encode("Hello, world"), real_model().tokenizer().encode("Hello, world"));
}

// Pieces that are matched as a whole are searched for by a recursion as deep as they are long.
TEST(HugeFile, ALongUserDefinedTokenIsRefused) {
  for (const std::size_t bytes : {std::size_t{4096}, std::size_t{4097}, std::size_t{4'000'000}}) {
    GgufBuilder builder = test::tiny_model();
    for (GgufBuilder::Key& key : builder.keys) {
      if (key.name != "tokenizer.ggml.tokens") continue;
      // The last token is "\n", user-defined.
      key.payload.resize(key.payload.size() - 9);
      key.payload += test::string_bytes(std::string(bytes, 'u'));
    }
    const TempFile file(builder.build());
    if (bytes == 4096) {
      EXPECT_EQ(Model::load(file.path()).tokenizer().longest_piece(), bytes);
      continue;
    }
    const Error error = thrown_error([&] { Model::load(file.path()); });
    EXPECT_EQ(error.code(), ErrorCode::kFile);
    EXPECT_TRUE(contains(error.what(), "bytes, expected at most 4096")) << error.what();
  }
}

/// `bytes` with numbers of two bytes at `at` replaced.
std::string claiming(std::string bytes, std::size_t at, std::uint16_t width, std::uint16_t height,
                     bool big_endian, bool height_first) {
  const std::uint16_t numbers[] = {height_first ? height : width, height_first ? width : height};
  for (const std::uint16_t number : numbers) {
    const char low = static_cast<char>(number & 0xFF), high = static_cast<char>(number >> 8);
    bytes[at++] = big_endian ? high : low;
    bytes[at++] = big_endian ? low : high;
  }
  return bytes;
}

/// Where a JPEG says its size.
std::size_t frame_of(const std::string& bytes) {
  for (std::size_t at = 2; at + 9 < bytes.size();) {
    const auto marker = static_cast<unsigned char>(bytes[at + 1]);
    if (marker >= 0xC0 && marker <= 0xC2) return at + 5;
    const auto byte = [&](std::size_t i) {
      return static_cast<std::size_t>(static_cast<unsigned char>(bytes[i]));
    };
    at += 2 + (byte(at + 2) << 8 | byte(at + 3));
  }
  return 0;
}

/// Pictures of tests/data that say they have `side` × `side` pixels.
std::vector<std::pair<std::string, std::string>> claims(std::uint16_t side) {
  std::vector<std::pair<std::string, std::string>> out;
  const auto read = [](const std::string& name) {
    return test::read_file(test_data("vision/decode/" + name));
  };
  for (const char* name : {"420.jpg", "progressive.jpg", "cmyk.jpg", "grey.jpg"}) {
    const std::string bytes = read(name);
    out.emplace_back(name, claiming(bytes, frame_of(bytes), side, side, true, true));
  }
  for (const char* name : {"palette.gif", "interlaced.gif"}) {
    std::string bytes = claiming(read(name), 6, side, side, false, false);
    const std::size_t frame = bytes.find(std::string(",\0\0\0\0", 5));
    if (frame != std::string::npos) bytes = claiming(bytes, frame + 5, side, side, false, false);
    out.emplace_back(name, bytes);
  }
  std::string bitmap = read("rgb24.bmp");
  bitmap = claiming(bitmap, 18, side, 0, false, false);
  out.emplace_back("rgb24.bmp", claiming(bitmap, 22, side, 0, false, false));
  std::string lossy = read("lossy.webp");
  const std::size_t key_frame = lossy.find("\x9d\x01\x2a");
  out.emplace_back("lossy.webp", claiming(lossy, key_frame + 3, side, side, false, false));
  return out;
}

TEST(HugePicture, TakesAtMostItsLimit) {
  for (const int pixels : {1500, 4000, 9000}) {
    const auto side = static_cast<std::uint16_t>(pixels);
    for (const auto& [name, bytes] : claims(side)) {
      for (const std::uint64_t limit : {8 * kMebibyte, 32 * kMebibyte, 96 * kMebibyte}) {
        SCOPED_TRACE(name + " of " + std::to_string(side) + " within " + std::to_string(limit));
        const Peak peak;
        if (!peak.can_tell()) GTEST_SKIP() << "a sanitizer, or no /proc";
        try {
          Image::decode(std::as_bytes(std::span(bytes)), name, {.memory_limit = limit});
        } catch (const Error& error) {
          EXPECT_TRUE(error.code() == ErrorCode::kMemory || error.code() == ErrorCode::kFile)
              << error.what();
        }
        EXPECT_LE(peak.bytes(), limit + 2 * kMebibyte);  // Pages of code, and tables.
      }
    }
  }
}

/// A PNG of stored bytes: what it holds is as large as it says.
std::string stored_png(std::uint32_t side, int depth) {
  const auto big = [](std::uint32_t n) {
    std::string bytes = number_bytes(n);
    std::ranges::reverse(bytes);
    return bytes;
  };
  const auto chunk = [&](const std::string& body) {
    std::uint32_t crc = ~0U;
    for (const char c : body) {
      crc ^= static_cast<unsigned char>(c);
      for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0xedb88320U & (0U - (crc & 1)));
    }
    return big(static_cast<std::uint32_t>(body.size() - 4)) + body + big(~crc);
  };
  const std::size_t row = 1 + std::size_t{side} * 3 * static_cast<std::size_t>(depth) / 8;
  std::string data = "\x78\x01";
  for (std::uint32_t y = 0; y < side; ++y) {
    const auto length = static_cast<std::uint16_t>(row);
    data += static_cast<char>(y + 1 == side ? 1 : 0);
    data += number_bytes(length) + number_bytes(static_cast<std::uint16_t>(~length));
    data += std::string(row, '\0');
  }
  const auto rows = static_cast<std::uint32_t>(row * side % 65521);
  data += big(rows << 16 | 1);
  return "\x89PNG\r\n\x1a\n" +
         chunk("IHDR" + big(side) + big(side) + static_cast<char>(depth) +
               std::string("\2\0\0\0", 4)) +
         chunk("IDAT" + data) + chunk("IEND");
}

TEST(HugePicture, OneThatIsWholeTakesNoMoreEither) {
  for (const int depth : {8, 16}) {
    const std::string bytes = stored_png(3000, depth);
    int decoded = 0;
    for (std::uint64_t limit = 8 * kMebibyte; limit <= 512 * kMebibyte; limit *= 2) {
      const Peak peak;
      if (!peak.can_tell()) GTEST_SKIP() << "a sanitizer, or no /proc";
      try {
        decoded +=
            Image::decode(std::as_bytes(std::span(bytes)), "it", {.memory_limit = limit}).width() ==
                    3000
                ? 1
                : 0;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kMemory) << error.what();
      }
      EXPECT_LE(peak.bytes(), limit + 2 * kMebibyte) << depth;
    }
    EXPECT_GT(decoded, 0) << depth;
  }
}

// A picture that is let go leaves nothing, and does not teach malloc to keep large blocks.
TEST(HugePicture, GivesItsMemoryBack) {
  const std::string bytes = stored_png(3000, 8);
  for (int i = 0; i < 4; ++i) {
    const Peak peak;
    if (!peak.can_tell()) GTEST_SKIP() << "a sanitizer, or no /proc";
    const std::uint64_t before = test::status_bytes("VmRSS");
    Image::decode(std::as_bytes(std::span(bytes)));
    EXPECT_LT(test::status_bytes("VmRSS"), before + 2 * kMebibyte);
  }
}

}  // namespace
}  // namespace lapidary::testing
