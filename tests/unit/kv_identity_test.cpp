// What decides whether keys and values of a file are those that would be computed: the model's
// fingerprint, and the number that is raised when their bits change.

#include "runtime/kv_identity.h"

#include <chrono>
#include <string>

#include "gguf_builder.h"
#include "runtime/kv_file.h"
#include "runtime/model_impl.h"
#include "runtime/saved_tokens.h"
#include "saved_session.h"

namespace lapidary::testing {
namespace {

std::string hex(const Digest& digest) {
  std::string out;
  for (const std::uint8_t byte : digest) {
    out += "0123456789abcdef"[byte >> 4U];
    out += "0123456789abcdef"[byte & 15U];
  }
  return out;
}

Digest fingerprint_of(const std::string& path) {
  return fingerprint(*open_source(path, Content::kText));
}

TEST(Fingerprint, IsThatOfTheModelHoweverItIsLoaded) {
  const Digest own = tiny_model().impl().fingerprint;
  const Model scalar = Model::load(test_data("tiny-gemma3-text-bf16.gguf"),
                                   {.threads = 1, .isa = "scalar", .screened_head = false});
  EXPECT_EQ(hex(scalar.impl().fingerprint), hex(own));
}

// Every tensor that is read whole, and the ends of all.
TEST(Fingerprint, TellsOtherWeights) {
  const std::string path = test_data("tiny-gemma3-text-bf16.gguf");
  const std::string bytes = test::read_file(path);
  const Digest own = fingerprint_of(path);
  const test::TempFile other(bytes);
  for (const FileInfo::Tensor& tensor : list_file(path).tensors) {
    for (const std::uint64_t at : {tensor.offset, tensor.offset + tensor.bytes - 1}) {
      const auto place = static_cast<std::size_t>(at);
      other.patch(place, static_cast<char>(bytes[place] ^ 1));
      EXPECT_NE(hex(fingerprint_of(other.path())), hex(own)) << tensor.name;
      other.patch(place, bytes[place]);
    }
  }
  EXPECT_EQ(hex(fingerprint_of(other.path())), hex(own));
}

TEST(Fingerprint, TellsWhatIsComputedWithThem) {
  const auto source = open_source(test_data("tiny-gemma3-text-bf16.gguf"), Content::kText);
  const Config config = read_config(*source);
  const Digest own = fingerprint(*source, config);
  Config other = config;
  other.global_rope_factor *= 8;
  EXPECT_NE(hex(fingerprint(*source, other)), hex(own));
  other = config;
  other.sliding_window += 1;
  EXPECT_NE(hex(fingerprint(*source, other)), hex(own));
  other = config;
  other.local[0] = !other.local[0];
  EXPECT_NE(hex(fingerprint(*source, other)), hex(own));
  other = config;
  other.screened_head = !other.screened_head;
  EXPECT_EQ(hex(fingerprint(*source, other)), hex(own)) << "changes no bit";
}

TEST(Fingerprint, OfARealModelTakesMilliseconds) {
  if (real_model_path() == nullptr) GTEST_SKIP() << "LAPIDARY_TEST_MODEL is not set";
  const auto source = open_source(real_model_path(), Content::kText);
  const auto start = std::chrono::steady_clock::now();
  const Digest first = fingerprint(*source);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(hex(first), hex(fingerprint(*source)));
  RecordProperty("milliseconds", static_cast<int>(seconds.count() * 1000));
  EXPECT_LT(seconds.count(), 2);
}

/// The hash of all pages of a session of 512 ids, without those of snapshots.
std::string pages_of(KvType kv) {
  const Folder folder;
  SessionOptions options{.context = 1024, .threads = 1, .kv = kv};
  options.snapshot_memory = 0;
  Session session(vision_model(), options);
  Prompt prompt = Prompts(1).picture(100, 156);
  for (std::size_t i = 0; i < prompt.ids.size(); ++i) {
    if (prompt.ids[i] != vision_model().tokenizer().image_token())
      prompt.ids[i] = static_cast<TokenId>(300 + i * 7 % 1200);
  }
  std::vector<float> values(prompt.images[0].values->size());
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(static_cast<int>(i * 31 % 257) - 128) / 64;
  prompt.images[0].values = std::make_shared<const std::vector<float>>(values);
  session.append(prompt);
  session.save(folder.path("a"));
  const CheckedReader file(folder.path("a"), kSavedSession);
  return hex(Hasher().bytes(file.read("pages", std::uint64_t{1} << 30)).finish());
}

// Where one of these is another, keys and values have other bits than in files that were written
// before: raise kKvBits, and put the new hashes here.
TEST(KvBits, AreThoseOfTheNumber) {
  EXPECT_EQ(kKvBits, 1U);
  EXPECT_EQ(pages_of(KvType::kBf16),
            "d3ff5840b67e860724dd3f7857a18e0d722f87fac32b5802f492cce0f9ec7327");
  EXPECT_EQ(pages_of(KvType::kInt8),
            "28ed462dd01acaefe817f1a3d258adff4d2c6038ab5ec0dac607bb05d077b340");
}

}  // namespace
}  // namespace lapidary::testing
