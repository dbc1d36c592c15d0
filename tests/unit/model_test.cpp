#include <cstdlib>
#include <filesystem>
#include <iterator>

#include "gguf_builder.h"
#include "model_fixture.h"
#include "test_data.h"

namespace lapidary::testing {
namespace {

const std::string kTiny = test_data("tiny-gemma3-text-bf16.gguf");

TEST(Model, SaysWhatTheFileSays) {
  const ModelInfo info = inspect(kTiny);
  EXPECT_EQ(info.architecture, "gemma3");
  EXPECT_EQ(info.layers, 8);
  EXPECT_EQ(info.global_layers, 1);  // Every sixth.
  EXPECT_EQ(info.width, 64);
  EXPECT_EQ(info.feed_forward, 128);
  EXPECT_EQ(info.query_heads, 4);
  EXPECT_EQ(info.kv_heads, 2);
  EXPECT_EQ(info.head_dim, 32);
  EXPECT_EQ(info.sliding_window, 64);
  EXPECT_EQ(info.trained_context, 131072);
  EXPECT_EQ(info.vocabulary, 1763);
  EXPECT_FALSE(info.instruction_tuned);
  EXPECT_EQ(info.file_bytes, std::filesystem::file_size(kTiny));
  EXPECT_GT(info.weight_bytes, info.parameters);  // Two bytes each, mostly.
  EXPECT_LE(info.bytes_per_token, info.weight_bytes);
  // q, k, v, o and the three of the feed-forward.
  EXPECT_EQ(info.multiplications_per_token, 8U * (2 * 64 * 128 + 2 * 64 * 64 + 3 * 64 * 128));
  ASSERT_FALSE(info.types.empty());
  EXPECT_EQ(info.types.front().type, "BF16");
}

TEST(Model, LoadedModelSaysTheSame) {
  const ModelInfo info = inspect(kTiny);
  EXPECT_EQ(tiny_model().info().weight_bytes, info.weight_bytes);
  EXPECT_EQ(tiny_model().info().layers, info.layers);
  EXPECT_FALSE(tiny_model().isa().empty());
  EXPECT_EQ(tiny_model().tokenizer().vocabulary_size(), info.vocabulary);
}

TEST(Model, AnOutputMatrixOfItsOwnIsReadInPlaceOfTheEmbedding) {
  const std::vector<TokenId> ids{2, 40, 41, 3, 50};
  for (const BlockType type : {BlockType::kF32, BlockType::kQ8_0, BlockType::kQ6_K}) {
    const test::TinyModel shape{
        .layers = 2, .width = 256, .feed_forward = 256, .query_heads = 8, .type = type};
    const auto add_output = [&](test::GgufBuilder file, std::uint64_t seed) {
      test::TinyRandom random(seed);
      const std::uint64_t values = std::uint64_t{shape.width} * test::kTinyVocabulary;
      return file.add_tensor("output.weight", {shape.width, test::kTinyVocabulary}, type,
                             test::random_tensor(random, type, values, 0.0F, 0.0625F));
    };
    const test::TempFile tied(test::tiny_model(shape).build());
    // The embedding's bytes once more, and others.
    const test::TempFile twice(add_output(test::tiny_model(shape), 1).build());
    const test::TempFile other(add_output(test::tiny_model(shape), 2).build());
    std::vector<std::uint64_t> hashes[3];
    TokenId drawn[3];
    for (const auto& [file, i] : {std::pair{&tied, 0}, {&twice, 1}, {&other, 2}}) {
      const Model model = Model::load(file->path());
      EXPECT_EQ(model.info().weight_bytes, inspect(file->path()).weight_bytes);
      EXPECT_EQ(model.info().bytes_per_token, inspect(tied.path()).bytes_per_token);
      Session session(model, {.context = 64}), searching(model, {.context = 64});
      hashes[i] = hash_positions(session, ids);
      searching.append(ids);
      drawn[i] = searching.draw({.temperature = 0});
      EXPECT_EQ(searching.head_stats().searches, 1U);
      EXPECT_EQ(drawn[i], argmax(session.logits()));
    }
    EXPECT_EQ(hashes[0], hashes[1]);
    EXPECT_NE(hashes[0], hashes[2]);
    EXPECT_EQ(drawn[0], drawn[1]);
  }
}

TEST(Model, WindowsSaveKeysAndValues) {
  const ModelInfo info = inspect(kTiny);
  EXPECT_EQ(info.kv_bytes(0), 0U);
  EXPECT_GT(info.kv_bytes(100), 0U);
  // Bf16 keys and values of two heads of 32.
  EXPECT_GE(info.kv_bytes(32768, true), 32768ULL * 8 * 2 * 64 * 2);
  EXPECT_LT(info.kv_bytes(32768), info.kv_bytes(32768, true) / 6);
}

TEST(Model, RefusesAnotherArchitecture) {
  std::ifstream in(kTiny, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), {});
  const std::size_t value = bytes.find("gemma3", bytes.find("general.architecture"));
  ASSERT_NE(value, std::string::npos);
  bytes.replace(value, 6, "llama\n");
  const std::string path = ::testing::TempDir() + "/lapidary_other_architecture.gguf";
  std::ofstream(path, std::ios::binary) << bytes;
  for (bool header_only : {true, false}) {
    const Error error =
        thrown_error([&] { header_only ? (void)inspect(path) : (void)Model::load(path); });
    EXPECT_EQ(error.code(), ErrorCode::kFile);
    EXPECT_TRUE(contains(error.what(), "llama ") && contains(error.what(), "gemma3"))
        << error.what();
  }
  std::filesystem::remove(path);
}

TEST(Model, RefusesWhatIsNotThere) {
  EXPECT_EQ(thrown_error([] { Model::load("/no/such/model.gguf"); }).code(), ErrorCode::kFile);
  EXPECT_EQ(thrown_error([] { Model::load(::testing::TempDir()); }).code(), ErrorCode::kFile);
}

TEST(Model, BudgetIsCheckedBeforeWeightsAreRead) {
  bool progressed = false;
  const Error error = thrown_error([&] {
    Model::load(kTiny, {.memory_limit = 1 << 19,
                        .progress = [&](std::uint64_t, std::uint64_t) { progressed = true; }});
  });
  EXPECT_EQ(error.code(), ErrorCode::kMemory);
  EXPECT_TRUE(contains(error.what(), "512.0 KiB") && contains(error.what(), "needs"))
      << error.what();
  EXPECT_FALSE(progressed);
  const ModelInfo info = inspect(kTiny);
  const std::uint64_t held = info.weight_bytes + info.vocabulary_bytes;
  EXPECT_EQ(Model::load(kTiny, {.memory_limit = held}).info().layers, 8);
  EXPECT_THROW(Model::load(kTiny, {.memory_limit = held - 1}), Error);
}

TEST(Model, ReportsProgressToTheEnd) {
  std::uint64_t last = 0;
  std::uint64_t end = 0;
  Model::load(kTiny, {.progress = [&](std::uint64_t done, std::uint64_t total) {
                EXPECT_GE(done, last);
                last = done;
                end = total;
              }});
  EXPECT_GT(end, 0U);
  EXPECT_EQ(last, end);
}

TEST(Model, InstructionSetCanBeForced) {
  EXPECT_EQ(Model::load(kTiny, {.isa = "scalar"}).isa(), "scalar");
  ::setenv("LAPIDARY_ISA", "scalar", 1);
  EXPECT_EQ(Model::load(kTiny).isa(), "scalar");
  ::setenv("LAPIDARY_ISA", "mmx", 1);
  const Error error = thrown_error([] { Model::load(kTiny); });
  ::unsetenv("LAPIDARY_ISA");
  EXPECT_EQ(error.code(), ErrorCode::kUsage);
  EXPECT_TRUE(contains(error.what(), "mmx") && contains(error.what(), "scalar")) << error.what();
}

TEST(Machine, LimitsArePlausible) {
  const MachineLimits limits = measure_machine(1);
  EXPECT_GT(limits.read_gigabytes_per_second, 0.1);
  EXPECT_LT(limits.read_gigabytes_per_second, 10000);
  EXPECT_GT(limits.int8_gigaops_per_second, 0.1);
  EXPECT_LT(limits.int8_gigaops_per_second, 1e6);
}

}  // namespace
}  // namespace lapidary::testing
