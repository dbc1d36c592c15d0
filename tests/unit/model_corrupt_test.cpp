// Files whose header is sound and whose model is not: each is one line that names the key or
// tensor.

#include <algorithm>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gguf_builder.h"
#include "model_fixture.h"

namespace lapidary::testing {
namespace {

using test::GgufBuilder;
using test::number_bytes;
using test::TempFile;
using test::TinyRandom;

struct Damage {
  std::string name;
  std::string named;  // What the message must say.
  std::function<void(GgufBuilder&)> apply;
  BlockType type = BlockType::kF32;
};

std::function<void(GgufBuilder&)> key_is(const std::string& key, std::uint32_t value) {
  return [=](GgufBuilder& file) { file.set_u32(key, value); };
}

/// Overwrites the bytes of a tensor at `offset`.
std::function<void(GgufBuilder&)> bytes_are(const std::string& tensor, std::size_t offset,
                                            const std::string& bytes) {
  return [=](GgufBuilder& file) { file.tensor(tensor).data.replace(offset, bytes.size(), bytes); };
}

/// Zeros from a share of the tensor's bytes on.
std::function<void(GgufBuilder&)> zeros_from(const std::string& tensor, double share) {
  return [=](GgufBuilder& file) {
    std::string& data = file.tensor(tensor).data;
    const auto from = static_cast<std::size_t>(share * static_cast<double>(data.size()));
    std::fill(data.begin() + static_cast<std::ptrdiff_t>(from), data.end(), '\0');
  };
}

std::vector<Damage> damages() {
  const std::string nan = number_bytes(std::numeric_limits<float>::quiet_NaN());
  const std::string half_nan = number_bytes<std::uint16_t>(0x7E00);
  const std::string half_infinity = number_bytes<std::uint16_t>(0x7C00);
  const std::string query = "blk.3.attn_q.weight";
  const std::string down = "blk.5.ffn_down.weight";
  return {
      {"HeadsThatDoNotDivide", "attention.head_count", key_is("gemma3.attention.head_count_kv", 3)},
      {"NoHeads", "attention.head_count", key_is("gemma3.attention.head_count", 0)},
      {"NoLayers", "block_count", key_is("gemma3.block_count", 0)},
      {"FourBillionLayers", "block_count", key_is("gemma3.block_count", 0xFFFFFFFF)},
      {"OneLayerMoreThanThereIs", "blk.6.attn_norm.weight", key_is("gemma3.block_count", 7)},
      {"WidthOfNoBlock", "embedding_length", key_is("gemma3.embedding_length", 65)},
      {"WidthOfAnotherModel", "token_embd.weight", key_is("gemma3.embedding_length", 96)},
      {"OddHeadDimension", "attention.key_length", key_is("gemma3.attention.key_length", 31)},
      {"MissingKey", "embedding_length",
       [](GgufBuilder& file) { file.remove_key("gemma3.embedding_length"); }},
      {"WrongTypeOfKey", "block_count",
       [](GgufBuilder& file) { file.set_string("gemma3.block_count", "six"); }},
      {"NegativeRopeBase", "rope.freq_base",
       [](GgufBuilder& file) { file.set_f32("gemma3.rope.freq_base", -1.0F); }},
      {"PatternOfTwoLayers", "sliding_window_pattern",
       [](GgufBuilder& file) {
         file.set_array("gemma3.attention.sliding_window_pattern", 7, 2, std::string(2, '\1'));
       }},
      {"MissingMatrix", query, [=](GgufBuilder& file) { file.remove_tensor(query); }},
      {"MissingNorm", "output_norm.weight",
       [](GgufBuilder& file) { file.remove_tensor("output_norm.weight"); }},
      {"TransposedMatrix", down,
       [=](GgufBuilder& file) {
         file.tensor(down).shape = {64, 128};
       }},
      {"FlatMatrix", query, [=](GgufBuilder& file) { file.tensor(query).shape = {64 * 64}; }},
      {"TokensWithoutRows", "token_embd.weight",
       [](GgufBuilder& file) {
         file.tensor("token_embd.weight").shape = {64, test::kTinyVocabulary - 1};
       }},
      {"QuantisedNorm", "blk.0.attn_norm.weight",
       [](GgufBuilder& file) {
         auto& norm = file.tensor("blk.0.attn_norm.weight");
         norm.type = static_cast<std::uint32_t>(BlockType::kQ8_0);
         norm.data.resize(2 * 34);
       }},
      {"NanInANorm", "blk.2.ffn_norm.weight", bytes_are("blk.2.ffn_norm.weight", 8, nan)},
      {"NanInAMatrix", query, bytes_are(query, 4000, nan)},
      {"NanScale", down, bytes_are(down, 34 * 77, half_nan), BlockType::kQ8_0},
      {"InfiniteScaleInTheLastBlock", "token_embd.weight",
       bytes_are("token_embd.weight", 34 * (test::kTinyVocabulary * 2 - 1), half_infinity),
       BlockType::kQ8_0},
      {"MatrixOfZeros", "the download may be incomplete", zeros_from(query, 0)},
      {"MatrixThatEndsInZeros", "the download may be incomplete", zeros_from(down, 0.5)},
      {"QuantisedMatrixThatEndsInZeros", "the download may be incomplete", zeros_from(down, 0.5),
       BlockType::kQ8_0},
      {"NormOfZeros", "the download may be incomplete", zeros_from("blk.5.ffn_norm.weight", 0)},
      {"BiasOfALayer", "blk.2.attn_q.bias belongs to a layer",
       [](GgufBuilder& file) {
         file.add_tensor("blk.2.attn_q.bias", {64}, BlockType::kF32, std::string(64 * 4, '\1'));
       }},
      {"LayerBehindTheLast", "blk.6.attn_norm.weight belongs to a layer",
       [](GgufBuilder& file) {
         file.add_tensor("blk.6.attn_norm.weight", {64}, BlockType::kF32, std::string(256, '\1'));
       }},
      {"BaseThatIsZeroAsAFloat", "rope.freq_base is 9.99989e-321, expected a number from 1 to",
       [](GgufBuilder& file) { file.set("gemma3.rope.freq_base", 12, number_bytes(1e-320)); }},
      {"EpsilonThatIsInfiniteAsAFloat", "layer_norm_rms_epsilon is 1e+300",
       [](GgufBuilder& file) {
         file.set("gemma3.attention.layer_norm_rms_epsilon", 12, number_bytes(1e300));
       }},
      {"FactorOfZeroWithoutAType", "rope.scaling.factor is 0",
       [](GgufBuilder& file) { file.set_f32("gemma3.rope.scaling.factor", 0); }},
      {"RopeBaseBelow1", "rope.freq_base is 1e-30",
       [](GgufBuilder& file) { file.set_f32("gemma3.rope.freq_base", 1e-30F); }},
      {"InfiniteOldRopeFactor", "rope.scale_linear is inf",
       [](GgufBuilder& file) {
         file.set_f32("gemma3.rope.scale_linear", std::numeric_limits<float>::infinity());
       }},
      {"SoftcapThatIsNoFloat", "final_logit_softcapping is 1e-60",
       [](GgufBuilder& file) {
         file.set("gemma3.final_logit_softcapping", 12, number_bytes(1e-60));
       }},
      {"EmbeddingThatIsMostlyZeros", "the download may be incomplete",
       zeros_from("token_embd.weight", 0.4)},
      {"LastRowOfTheFile", down + " is zeros",
       [=](GgufBuilder& file) {
         const GgufBuilder::Tensor last = file.tensor(down);
         file.remove_tensor(down).tensors.push_back(last);
         zeros_from(down, 63.0 / 64)(file);
       }},
      {"ScalingOfAnotherKind", "is 'yarn two', expected linear",
       [](GgufBuilder& file) { file.set_string("gemma3.rope.scaling.type", "yarn\ntwo"); }},
  };
}

class DamagedModel : public ::testing::TestWithParam<Damage> {};

TEST_P(DamagedModel, IsOneLineThatNamesIt) {
  GgufBuilder builder = test::tiny_model({.type = GetParam().type});
  GetParam().apply(builder);
  const TempFile file(builder.build());
  const Error error = thrown_error([&] { Model::load(file.path()); });
  EXPECT_EQ(error.code(), ErrorCode::kFile) << error.what();
  EXPECT_TRUE(contains(error.what(), GetParam().named)) << error.what();
  EXPECT_TRUE(contains(error.what(), file.path())) << error.what();
  EXPECT_FALSE(contains(error.what(), "\n")) << error.what();
}
INSTANTIATE_TEST_SUITE_P(Each, DamagedModel, ::testing::ValuesIn(damages()),
                         [](const auto& damage) { return damage.param.name; });

TEST(DamagedModel, WithoutDamageItLoadsAndComputes) {
  for (const BlockType type : {BlockType::kF32, BlockType::kQ8_0}) {
    const TempFile file(test::tiny_model({.type = type}).build());
    Session session(Model::load(file.path()), {.context = 64});
    session.append(std::vector<TokenId>{2, 270, 271});
    EXPECT_EQ(session.logits().size(), test::kTinyVocabulary);
  }
}

std::vector<float> logits_of(const GgufBuilder& builder) {
  const TempFile file(builder.build());
  Session session(Model::load(file.path()), {.context = 64});
  session.append(std::vector<TokenId>{2, 270, 271, 272});
  return {session.logits().begin(), session.logits().end()};
}

// Converters say it in three ways.
TEST(RopeScaling, AFactorWithoutATypeIsLinear) {
  const auto scaled = [](const std::function<void(GgufBuilder&)>& by) {
    GgufBuilder builder = test::tiny_model({});
    by(builder);
    return logits_of(builder);
  };
  const std::vector<float> linear = scaled([](GgufBuilder& file) {
    file.set_string("gemma3.rope.scaling.type", "linear").set_f32("gemma3.rope.scaling.factor", 4);
  });
  EXPECT_EQ(linear,
            scaled([](GgufBuilder& file) { file.set_f32("gemma3.rope.scaling.factor", 4); }));
  EXPECT_EQ(linear, scaled([](GgufBuilder& file) { file.set_f32("gemma3.rope.scale_linear", 4); }));
  EXPECT_NE(linear, scaled([](GgufBuilder&) {}));
}

TEST(UnusedTensors, AreToldInOneLine) {
  GgufBuilder builder = test::tiny_model({});
  builder.add_tensor("rope_freqs.weight", {8}, BlockType::kF32, std::string(32, '\1'));
  for (const char* name : {"v.blk.0.ln1.weight", "v.blk.0.ln2.weight", "v.post_ln.weight"})
    builder.add_tensor(name, {8}, BlockType::kF32, std::string(32, '\1'));
  EXPECT_EQ(inspect(TempFile(builder.build()).path()).warnings,
            std::vector<std::string>{"4 tensors are not used: rope_freqs.weight, "
                                     "v.blk.0.ln1.weight and 2 like it"});
}

TEST(UnusedTensors, AreTold) {
  GgufBuilder builder = test::tiny_model({});
  builder.add_tensor("mm.spare", {32}, BlockType::kF32, std::string(128, '\1'));
  const TempFile file(builder.build());
  EXPECT_EQ(Model::load(file.path()).info().warnings,
            std::vector<std::string>{"tensor mm.spare is not used"});
  EXPECT_EQ(inspect(file.path()).warnings.size(), 1U);
}

// Tokens that nobody uses, a padded width, a row that training made nothing of.
TEST(DamagedModel, SomeZerosAreNoDamage) {
  GgufBuilder builder = test::tiny_model();
  zeros_from("token_embd.weight", 0.6)(builder);
  zeros_from("blk.0.ffn_up.weight", 0.95)(builder);
  zeros_from("blk.1.attn_q_norm.weight", 0.8)(builder);
  builder.tensor("blk.2.attn_k.weight").data.replace(256, 256, 256, '\0');
  const TempFile file(builder.build());
  EXPECT_NO_THROW(Model::load(file.path()));
}

// Space that a download reserved: from any place on, the file is zeros.
TEST(DamagedModel, FileWhoseEndIsZerosIsRefused) {
  const GgufBuilder builder = test::tiny_model({.layers = 2});
  const std::string content = builder.build();
  const std::size_t header = builder.header().size();
  TinyRandom random(10);
  for (int i = 0; i < 40; ++i) {
    std::string cut = content;
    const std::size_t from = header + 32 + random.below(content.size() - header - 256);
    std::fill(cut.begin() + static_cast<std::ptrdiff_t>(from), cut.end(), '\0');
    const TempFile file(cut);
    const Error error = thrown_error([&] { Model::load(file.path()); });
    EXPECT_EQ(error.code(), ErrorCode::kFile) << error.what();
    EXPECT_TRUE(contains(error.what(), "the download may be incomplete")) << error.what();
  }
}

// A flipped bit of a weight is another weight, or a scale that is not finite; never a crash.
TEST(DamagedModel, FlippedBitsOfWeightsLoadOrAreErrors) {
  const GgufBuilder builder = test::tiny_model({.layers = 2, .type = BlockType::kQ8_0});
  const std::string content = builder.build();
  const std::size_t header = builder.header().size();
  const TempFile file(content);
  TinyRandom random(9);
  int loaded = 0;
  constexpr int kFlips = 200;
  for (int i = 0; i < kFlips; ++i) {
    const std::size_t at = header + static_cast<std::size_t>(random.below(content.size() - header));
    file.patch(at, static_cast<char>(content[at] ^ 1 << random.below(8)));
    try {
      Session session(Model::load(file.path()), {.context = 8});
      session.append(std::vector<TokenId>{2, 270});
      ++loaded;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kFile) << error.what();
    }
    file.patch(at, content[at]);
  }
  EXPECT_GT(loaded, kFlips / 2);
}

}  // namespace
}  // namespace lapidary::testing
