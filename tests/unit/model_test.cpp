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

TEST(Model, NamesSpecialTokensAndRepairs) {
  for (const ModelInfo& info : {inspect(kTiny), tiny_model().info()}) {
    const auto& tokens = info.special_tokens;
    ASSERT_EQ(tokens.size(), 10U);
    EXPECT_EQ(tokens[2].name, "<bos>");
    EXPECT_EQ(tokens[2].id, 2);
    EXPECT_FALSE(tokens[2].stops);
    EXPECT_EQ(tokens[6].name, "<end_of_turn>");
    EXPECT_TRUE(tokens[6].stops && tokens[1].stops);
    EXPECT_EQ(info.repairs, tiny_model().tokenizer().warnings());
    EXPECT_EQ(info.repairs.size(), 2U);
    EXPECT_TRUE(info.warnings.empty());
  }
}

TEST(FileInfo, ListsKeysAndTensorsAsTheyAre) {
  test::GgufBuilder builder;
  builder.set_string("a.text", "x\n\xFF").set_f32("a.small", 1e-6F).set_f32("a.plain", 1e6F);
  builder.set_bool("a.flag", true).set("a.big", 10, test::number_bytes<std::uint64_t>(~0ULL));
  builder.set_strings("b.texts", {"one", "", "three"});
  builder.set_numbers<std::int32_t>("b.empty", 5, {});
  builder.set_string("general.architecture", "other");
  builder.add_tensor("t.weight", {32, 2}, BlockType::kQ8_0, std::string(68, 'a'));
  const test::TempFile file(builder.build());
  const FileInfo info = inspect_file(file.path(), 2);
  EXPECT_EQ(info.format, "GGUF 3");
  EXPECT_FALSE(info.vision);
  using Strings = std::vector<std::string>;
  const std::vector<std::pair<std::string, Strings>> expected = {
      {"a.big uint64 1", {"18446744073709551615"}},
      {"a.flag bool 1", {"true"}},
      {"a.plain float32 1", {"1000000"}},
      {"a.small float32 1", {"1e-06"}},
      {"a.text string 1", {"x\n\xFF"}},
      {"b.empty int32[] 0", {}},
      {"b.texts string[] 3", {"one", ""}},
      {"general.architecture string 1", {"other"}}};
  ASSERT_EQ(info.metadata.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const FileInfo::Entry& entry = info.metadata[i];
    EXPECT_EQ(
        entry.key + " " + entry.type + (entry.is_array ? "[] " : " ") + std::to_string(entry.count),
        expected[i].first);
    EXPECT_EQ(entry.values, expected[i].second);
  }
  ASSERT_EQ(info.tensors.size(), 1U);
  EXPECT_EQ(info.tensors[0].type, "Q8_0");
  EXPECT_EQ(info.tensors[0].shape, (std::vector<std::uint64_t>{32, 2}));
  EXPECT_EQ(info.tensors[0].bytes, 68U);
  EXPECT_EQ(info.tensors[0].offset % 32, 0U);
  EXPECT_TRUE(inspect_file(test_data("tiny-gemma3-mmproj-f16.gguf")).vision);
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
    EXPECT_TRUE(contains(error.what(), "llama\\x0a") && contains(error.what(), "gemma3"))
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
  EXPECT_TRUE(contains(error.what(), "0.5 MiB") && contains(error.what(), "needs")) << error.what();
  EXPECT_FALSE(progressed);
  EXPECT_EQ(Model::load(kTiny, {.memory_limit = inspect(kTiny).weight_bytes}).info().layers, 8);
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
