// Folders as Hugging Face publishes models in: the same model as the GGUF files made of them,
// whatever the release that wrote them calls things, and whatever the files are.

#include "formats/hf_folder.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "folder_builder.h"
#include "formats/hf_names.h"
#include "formats/quantize.h"
#include "formats/quantized_source.h"
#include "model/weights.h"
#include "model_fixture.h"
#include "test_data.h"
#include "text/tokenizer_impl.h"
#include "vision/vision_weights.h"

namespace lapidary::testing {
namespace {

namespace fs = std::filesystem;
using test::FolderBuilder;
using test::TempFolder;

std::string tiny() { return test_data("tiny-gemma3-hf"); }

WeightsPtr load(const WeightSource& source, int threads = 2) {
  Team team(threads);
  return load_weights(source, read_config(source), *kernels::best(), team, {});
}

bool same(const PackedMatrix& a, const PackedMatrix& b) {
  return a.packing == b.packing && a.rows == b.rows && a.columns == b.columns &&
         std::equal(a.panels, a.panels + a.bytes(), b.panels);
}

bool same(const Weights& a, const Weights& b) {
  const auto width = static_cast<std::size_t>(a.config.width);
  bool all = a.layers.size() == b.layers.size() && same(a.head.panels, b.head.panels) &&
             std::equal(a.output_norm, a.output_norm + width, b.output_norm);
  for (std::size_t i = 0; all && i < a.layers.size(); ++i) {
    const LayerWeights &x = a.layers[i], &y = b.layers[i];
    for (const auto norm : {&LayerWeights::attention_norm, &LayerWeights::post_attention_norm,
                            &LayerWeights::ffn_norm, &LayerWeights::post_ffn_norm})
      all = all && std::equal(x.*norm, x.*norm + width, y.*norm);
    const auto head_dim = static_cast<std::size_t>(a.config.head_dim);
    for (const auto norm : {&LayerWeights::query_norm, &LayerWeights::key_norm})
      all = all && std::equal(x.*norm, x.*norm + head_dim, y.*norm);
    for (const auto matrix :
         {&LayerWeights::query, &LayerWeights::key, &LayerWeights::value, &LayerWeights::output,
          &LayerWeights::gate, &LayerWeights::up, &LayerWeights::down})
      all = all && same(x.*matrix, y.*matrix);
  }
  return all;
}

TEST(HfFolder, IsTheModelThatGgufFilesAreMadeOf) {
  const auto folder = open_source(tiny(), Content::kText);
  const auto gguf = open_source(test_data("tiny-gemma3-text-bf16.gguf"), Content::kText);
  const Config a = read_config(*folder), b = read_config(*gguf);
  EXPECT_EQ(a.local, b.local);
  EXPECT_EQ(a.query_scale, b.query_scale);
  EXPECT_EQ(a.global_rope_factor, b.global_rope_factor);
  EXPECT_EQ(a.norm_epsilon, b.norm_epsilon);
  EXPECT_EQ(a.trained_context, b.trained_context);
  EXPECT_EQ(a.vocabulary, b.vocabulary);
  EXPECT_TRUE(same(*load(*folder, 1), *load(*gguf, 2)));
  EXPECT_TRUE(unused_tensors(*folder, a).empty());
}

TEST(HfFolder, HasTheVisionTowerToo) {
  const auto folder = open_source(tiny(), Content::kVision);
  const auto gguf = open_source(test_data("tiny-gemma3-mmproj-f16.gguf"), Content::kVision);
  const VisionConfig a = read_vision_config(*folder), b = read_vision_config(*gguf);
  EXPECT_EQ(std::pair(a.pool, a.text_width), std::pair(b.pool, b.text_width));
  EXPECT_EQ(a.mean, b.mean);
  Team team(2);
  const auto load = [&](const WeightSource& source) {
    return load_vision_weights(source, a, *kernels::best(), team, {});
  };
  const auto x = load(*folder), y = load(*gguf);
  const auto same_values = [](const BfpMatrix& p, const BfpMatrix& q) {
    return std::equal(p.values, p.values + p.value_count(), q.values) &&
           std::equal(p.scales, p.scales + p.scale_count(), q.scales);
  };
  EXPECT_TRUE(same_values(x->projection, y->projection));
  EXPECT_TRUE(same_values(x->patch.matrix, y->patch.matrix));
  EXPECT_TRUE(same_values(x->layers[1].up.matrix, y->layers[1].up.matrix));
  EXPECT_TRUE(std::equal(x->soft_norm, x->soft_norm + a.width, y->soft_norm));
  EXPECT_TRUE(unused_vision_tensors(*folder, a).empty());
}

TEST(HfFolder, NamesMayHaveWhateverPrefix) {
  const auto check = [](const char* whole, bool vision, const char* rest) {
    const HfName name = split_hf_name(whole);
    EXPECT_EQ(name.vision, vision) << whole;
    EXPECT_EQ(name.name, rest) << whole;
  };
  for (const char* prefix : {"", "model.", "language_model.", "language_model.model.",
                             "model.language_model.", "model.language_model.model."})
    check((prefix + std::string("layers.3.mlp.up_proj.weight")).c_str(), false,
          "layers.3.mlp.up_proj.weight");
  for (const char* prefix : {"", "model.", "language_model.", "model.language_model."})
    check((prefix + std::string("lm_head.weight")).c_str(), false, "lm_head.weight");
  for (const char* prefix : {"vision_tower.", "vision_tower.vision_model.", "model.vision_tower.",
                             "model.vision_tower.vision_model."})
    check((prefix + std::string("post_layernorm.bias")).c_str(), true, "post_layernorm.bias");
  for (const char* prefix : {"", "model."})
    check((prefix + std::string("multi_modal_projector.mm_soft_emb_norm.weight")).c_str(), true,
          "multi_modal_projector.mm_soft_emb_norm.weight");
  EXPECT_TRUE(is_rms_norm({false, "layers.0.self_attn.q_norm.weight"}));
  EXPECT_TRUE(is_rms_norm({true, "multi_modal_projector.mm_soft_emb_norm.weight"}));
  EXPECT_FALSE(is_rms_norm({true, "post_layernorm.weight"}));
  EXPECT_FALSE(is_rms_norm({true, "encoder.layers.0.layer_norm1.weight"}));
}

// Every name of the whole folder once more with each prefix: the same weights.
TEST(HfFolder, PrefixesChangeNoBit) {
  const TempFolder plain;
  FolderBuilder().lay(plain);
  const auto expected_source = open_source(plain.path(), Content::kText);
  const WeightsPtr expected = load(*expected_source);
  for (const char* prefix : {"language_model.model.", "model.language_model."}) {
    FolderBuilder builder;
    nlohmann::ordered_json header = nlohmann::ordered_json::object();
    for (const auto& [name, entry] : builder.tensors.header.items())
      header[prefix + name.substr(6)] = entry;
    builder.tensors.header = header;
    const TempFolder folder;
    builder.lay(folder);
    const auto source = open_source(folder.path(), Content::kText);
    EXPECT_TRUE(same(*load(*source), *expected)) << prefix;
    EXPECT_EQ(source->where({Part::kHead}),
              folder.path() + ": tensor " + prefix + "lm_head.weight");
  }
}

TEST(HfFolder, MayLieInSeveralFiles) {
  const TempFolder one, two, lost;
  FolderBuilder().lay(one);
  FolderBuilder().in_two().lay(two);
  FolderBuilder().in_two().lay(lost);
  fs::remove(lost.path() + "/model.safetensors.index.json");
  const auto expected = open_source(one.path(), Content::kText);
  for (const TempFolder* folder : {&two, &lost}) {
    const auto source = open_source(folder->path(), Content::kText);
    EXPECT_TRUE(same(*load(*source), *load(*expected)));
    const auto ends = [](const TensorInfo& tensor) { return tensor.ends_file; };
    EXPECT_EQ(std::ranges::count_if(source->tensors(), ends), 2);
    EXPECT_EQ(source->files().size(), 4U);  // With config.json and tokenizer.model.
  }
}

// Norms in each type; the 1 is added in fp32, and any part of them can be read.
TEST(HfFolder, NormsAreWhatValuesAreMultipliedBy) {
  const TempFolder folder;
  FolderBuilder builder;
  std::string floats;
  for (int i = 0; i < FolderBuilder::kWidth; ++i)
    floats += test::number_bytes(0.1F * static_cast<float>(i));
  builder.tensors.header.erase("model.norm.weight");
  builder.tensors.add("model.norm.weight", "F32", {FolderBuilder::kWidth}, floats);
  builder.lay(folder);
  const auto source = open_source(folder.path(), Content::kText);
  const TensorInfo* const norm = source->find({Part::kOutputNorm});
  ASSERT_NE(norm, nullptr);
  EXPECT_EQ(norm->bytes, 4U * FolderBuilder::kWidth);
  std::vector<float> values(FolderBuilder::kWidth);
  source->read(*norm, 0, std::as_writable_bytes(std::span(values)));
  for (int i = 0; i < FolderBuilder::kWidth; ++i)
    EXPECT_EQ(values[static_cast<std::size_t>(i)], 0.1F * static_cast<float>(i) + 1.0F);
  std::vector<std::byte> part(7);
  source->read(*norm, 9, part);
  EXPECT_EQ(std::memcmp(part.data(), reinterpret_cast<const char*>(values.data()) + 9, 7), 0);
  const TensorInfo* const bf16 = source->find({Part::kQueryNorm, 0});
  float first = 0;
  source->read(*bf16, 0, std::as_writable_bytes(std::span(&first, 1)));
  EXPECT_EQ(first, bf16_to_float(0x3D00 | 0x8000) + 1.0F);
  EXPECT_TRUE(contains(thrown_error([&] {
                         source->read(*norm, 100, std::as_writable_bytes(std::span(values)));
                       }).what(),
                       "128 bytes, 128 were asked for at 100"));
}

TEST(HfFolder, AHeadOfItsOwn) {
  const auto open_with = [](FolderBuilder& builder) {
    const TempFolder folder;
    builder.lay(folder);
    const auto source = open_source(folder.path(), Content::kText);
    return std::pair(source->find({Part::kHead}) != nullptr,
                     unused_tensors(*source, read_config(*source)));
  };
  const auto size = FolderBuilder::kVocabulary * FolderBuilder::kWidth;
  FolderBuilder tied, copied, other, untied;
  EXPECT_EQ(open_with(tied), std::pair(false, std::string()));
  // A copy of the embedding is no other head, nor is it unused.
  copied.tensors.add("lm_head.weight", "BF16", {FolderBuilder::kVocabulary, FolderBuilder::kWidth},
                     test::bf16_values(size));
  EXPECT_EQ(open_with(copied), std::pair(false, std::string()));
  other.tensors.add("lm_head.weight", "BF16", {FolderBuilder::kVocabulary, FolderBuilder::kWidth},
                    test::bf16_values(size, 0x3E00));
  EXPECT_EQ(open_with(other), std::pair(true, std::string()));
  copied.config["tie_word_embeddings"] = false;
  EXPECT_EQ(open_with(copied), std::pair(true, std::string()));
}

TEST(HfFolder, DefaultsAreThoseOfTransformers) {
  const TempFolder folder;
  FolderBuilder builder;
  builder.config = {{"model_type", "gemma3"}, {"text_config", nlohmann::ordered_json::object()}};
  builder.lay(folder);
  const auto source = open_source(folder.path(), Content::kText);
  const auto integer = [&](Key key) { return source->find_uint(key); };
  EXPECT_EQ(integer(Key::kWidth), 2304U);
  EXPECT_EQ(integer(Key::kFeedForward), 9216U);
  EXPECT_EQ(integer(Key::kLayers), 26U);
  EXPECT_EQ(integer(Key::kHeads), 8U);
  EXPECT_EQ(integer(Key::kKvHeads), 4U);
  EXPECT_EQ(integer(Key::kHeadDim), 256U);
  EXPECT_EQ(integer(Key::kTrainedContext), 131072U);
  EXPECT_EQ(integer(Key::kSlidingWindow), 4096U);
  EXPECT_EQ(integer(Key::kSlidingPattern), 6U);
  EXPECT_EQ(source->find_float(Key::kQueryScalar), 256);
  EXPECT_EQ(source->find_float(Key::kNormEpsilon), 1e-6);
  EXPECT_EQ(source->find_float(Key::kRopeBase), 1e6);
  EXPECT_EQ(source->find_float(Key::kLocalRopeBase), 1e4);
  EXPECT_EQ(source->find_string(Key::kRopeScaling), "none");
  EXPECT_EQ(source->name(Key::kHeads), "text_config.num_attention_heads");
  EXPECT_EQ(source->where(Key::kHeads),
            folder.path() + "/config.json: key text_config.num_attention_heads");
}

TEST(HfFolder, BothGenerationsOfKeys) {
  using Json = nlohmann::ordered_json;
  const auto config_of = [](const std::function<void(Json&)>& change) {
    const TempFolder folder;
    FolderBuilder builder;
    change(builder.config);
    builder.lay(folder);
    return read_config(*open_source(folder.path(), Content::kText));
  };
  const Config old = config_of([](Json& c) {
    c["rope_scaling"] = {{"type", "linear"}, {"factor", 8.0}};
    c["rope_theta"] = 500000.0;
    c["rope_local_base_freq"] = 20000;
  });
  EXPECT_EQ(old.global_rope_factor, 8);
  EXPECT_EQ(old.global_rope_base, 500000);
  EXPECT_EQ(old.local_rope_base, 20000);
  EXPECT_EQ(old.local, (std::vector<bool>{true, false}));
  const Config current = config_of([](Json& c) {
    c["rope_parameters"] = {
        {"full_attention", {{"rope_type", "linear"}, {"factor", 4.0}, {"rope_theta", 300000.0}}},
        {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 30000.0}}}};
    c["layer_types"] = Json::array({"full_attention", "sliding_attention"});
  });
  EXPECT_EQ(current.global_rope_factor, 4);
  EXPECT_EQ(current.global_rope_base, 300000);
  EXPECT_EQ(current.local_rope_base, 30000);
  EXPECT_EQ(current.local, (std::vector<bool>{false, true}));
  const Config flat = config_of([](Json& c) {
    c["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 700000.0}};
    c["sliding_window"] = nullptr;
    c["final_logit_softcapping"] = 30.0;
  });
  EXPECT_EQ(flat.global_rope_base, 700000);
  EXPECT_EQ(flat.sliding_window, 0);
  EXPECT_EQ(flat.local, (std::vector<bool>{false, false}));
  EXPECT_EQ(flat.logit_softcap, 30);
}

TEST(HfFolder, EndsTextsAndWritesTurnsAsItsFilesSay) {
  const TempFolder folder;
  FolderBuilder builder;
  builder.files["generation_config.json"] = R"({"eos_token_id": [4, 1, 263, 0]})";
  builder.files["tokenizer_config.json"] =
      R"({"chat_template": [{"name": "tools", "template": "no"},
          {"name": "default", "template": "<start_of_turn>user"}]})";
  builder.lay(folder);
  const auto source = open_source(folder.path(), Content::kText);
  EXPECT_EQ(source->find_string(Key::kChatTemplate), "<start_of_turn>user");
  const Tokenizer tokenizer = load_tokenizer(*source);
  EXPECT_EQ(std::vector(tokenizer.stop_ids().begin(), tokenizer.stop_ids().end()),
            (std::vector<TokenId>{1, 6, 4, 263, 0}));
  folder.write("chat_template.jinja", "<|im_start|>");
  EXPECT_EQ(open_source(folder.path(), Content::kText)->find_string(Key::kChatTemplate),
            "<|im_start|>");
}

TEST(HfFolder, BothKindsOfTokenizersGiveTheSameIds) {
  const TempFolder model, json, merges_first;
  FolderBuilder().lay(model);
  auto content = FolderBuilder::small_json();
  FolderBuilder().with_json(content).lay(json);
  // In another order, and merges as older releases wrote them.
  nlohmann::json sorted = nlohmann::json::parse(content.dump());
  sorted["model"]["merges"] = nlohmann::json::array({"a b", "\xE2\x96\x81 a"});
  FolderBuilder().with_json(sorted).lay(merges_first);
  const Tokenizer expected = load_tokenizer(model.path());
  for (const TempFolder* folder : {&json, &merges_first}) {
    const Tokenizer tokenizer = load_tokenizer(folder->path());
    EXPECT_EQ(tokenizer.vocabulary_size(), expected.vocabulary_size());
    for (const char* text : {"ab", "a ab b aab", "  a\n b", "a   ab\n\n", "\xC3\xA9", "abab ab"})
      EXPECT_EQ(tokenizer.encode(text), expected.encode(text)) << text;
  }
}

// What no merge makes is not made, though it is a token.
TEST(HfFolder, TokensWithoutAMergeStayApart) {
  auto content = FolderBuilder::small_json();
  content["model"]["vocab"]["ba"] = 270;
  content["model"]["vocab"]["bab"] = 271;  // Made of what is not made.
  content["model"]["merges"].push_back(nlohmann::ordered_json::array({"ba", "b"}));
  const TempFolder folder;
  FolderBuilder().with_json(content).lay(folder);
  const Tokenizer tokenizer = load_tokenizer(folder.path());
  EXPECT_EQ(tokenizer.encode("ba"), (std::vector<TokenId>{267, 266}));
  EXPECT_EQ(tokenizer.encode("bab"), (std::vector<TokenId>{267, 268}));
  EXPECT_EQ(tokenizer.piece(270), "ba");
}

TEST(HfFolder, AVocabularyIsReadFromATokenizerAlone) {
  const TempFolder folder;
  folder.write("tokenizer.model", FolderBuilder::small_proto());
  EXPECT_EQ(load_tokenizer(folder.path()).vocabulary_size(), 270);
}

TEST(HfFolder, LinksStayInsideOfIt) {
  const TempFolder outside;
  FolderBuilder builder;
  builder.lay(outside);
  const auto laid = [&](const fs::path& at, const fs::path& target) {
    fs::create_directories(at);
    for (const char* name : {"config.json", "tokenizer.model"})
      fs::copy_file(outside.path() + "/" + name, at / name);
    fs::create_symlink(target, at / "model.safetensors");
    return at.string();
  };
  const TempFolder root;
  const fs::path base = root.path();
  const auto refused = [](const std::string& path) {
    return std::string(thrown_error([&] { open_source(path, Content::kText); }).what());
  };
  const fs::path file = outside.path() + "/model.safetensors";
  EXPECT_TRUE(
      contains(refused(laid(base / "plain", file)), "is a link that leads out of the folder"));
  EXPECT_TRUE(contains(refused(laid(base / "gone", "nowhere")), "is a link to what is not there"));
  // A cache: snapshots/REVISION/FILE leads to ../../blobs/HASH.
  const fs::path cache = base / "models--google--gemma-3-1b-it";
  fs::create_directories(cache / "blobs");
  fs::copy_file(file, cache / "blobs/0123abcd");
  const auto cached =
      open_source(laid(cache / "snapshots/f00d", "../../blobs/0123abcd"), Content::kText);
  EXPECT_EQ(cached->find_string(Key::kName), "google/gemma-3-1b-it");
  EXPECT_NO_THROW(load(*cached));
  EXPECT_TRUE(contains(refused(laid(cache / "snapshots/bad1", file)), "leads out"));
  fs::create_directories(cache / "blobs/deeper");
  fs::copy_file(file, cache / "blobs/deeper/0");
  EXPECT_TRUE(
      contains(refused(laid(cache / "snapshots/bad2", "../../blobs/deeper/0")), "leads out"));
  // Beside a folder called blobs alone nothing is a cache.
  fs::create_directories(base / "blobs");
  fs::copy_file(file, base / "blobs/0");
  EXPECT_TRUE(contains(refused(laid(base / "x/y", "../../blobs/0")), "leads out"));
  const fs::path inner = base / "inner";
  fs::create_directories(inner);
  fs::copy_file(file, inner / "weights");
  EXPECT_NO_THROW(open_source(laid(inner, "weights"), Content::kText));
}

TEST(QuantizedSource, IsTheSameWhateverIsReadAtOnce) {
  const auto plain = open_source(tiny(), Content::kText);
  for (const char* name : {"q8_0", "q4_0", "q4_k", "q6_k", "bf16"}) {
    const auto source =
        quantize_source(open_source(tiny(), Content::kText), find_weight_type(name).value());
    EXPECT_TRUE(same(*load(*source, 1), *load(*source, 2))) << name;
    const TensorInfo& up = *source->find({Part::kUp, 3});
    std::vector<std::byte> whole(up.bytes), parts(up.bytes);
    source->read(up, 0, whole);
    for (std::size_t at = 0; at < parts.size(); at += 29)
      source->read(up, at,
                   std::span(parts).subspan(at, std::min<std::size_t>(29, parts.size() - at)));
    EXPECT_EQ(whole, parts) << name;
    std::vector<float> values(up.columns() * up.rows()), expected(values.size());
    dequantize(up.type, whole, values);
    const TensorInfo& from = *plain->find({Part::kUp, 3});
    std::vector<std::byte> bytes(from.bytes);
    plain->read(from, 0, bytes);
    dequantize(from.type, bytes, expected);
    double error = 0, square = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      error += std::pow(values[i] - expected[i], 2);
      square += std::pow(expected[i], 2);
    }
    EXPECT_LT(std::sqrt(error / square), 0.12) << name;
  }
}

TEST(QuantizedSource, GivesTheHeadMoreBitsAndFallsBackWhereBlocksDoNotFit) {
  const auto types = [](const char* name) {
    const auto source =
        quantize_source(open_source(tiny(), Content::kText), find_weight_type(name).value());
    return std::pair(source->find({Part::kUp, 0})->type, source->find({Part::kEmbedding})->type);
  };
  // 64 columns are no block of 256.
  EXPECT_EQ(types("q4_k"), std::pair(BlockType::kQ5_0, BlockType::kQ8_0));
  EXPECT_EQ(types("q5_k"), std::pair(BlockType::kQ5_1, BlockType::kQ8_0));
  EXPECT_EQ(types("q6_k"), std::pair(BlockType::kQ8_0, BlockType::kQ8_0));
  EXPECT_EQ(types("q4_0"), std::pair(BlockType::kQ4_0, BlockType::kQ8_0));
  EXPECT_EQ(types("q8_0"), std::pair(BlockType::kQ8_0, BlockType::kQ8_0));
  EXPECT_EQ(types("bf16"), std::pair(BlockType::kBF16, BlockType::kBF16));
  const auto norms = quantize_source(open_source(tiny(), Content::kText), BlockType::kQ4_0);
  EXPECT_EQ(norms->find({Part::kOutputNorm})->type, BlockType::kF32);
  EXPECT_TRUE(contains(thrown_error([] { Model::load(tiny(), {.weights = "q9_0"}); }).what(),
                       "weights of type q9_0, expected one of bf16, f16"));
}

TEST(QuantizedSource, NoticesWhatIsNoWeight) {
  const auto said = [](const std::string& values) {
    const TempFolder folder;
    FolderBuilder builder;
    const auto at = builder.tensors.header["model.layers.1.mlp.up_proj.weight"]["data_offsets"][0]
                        .get<std::size_t>();
    builder.tensors.data.replace(at, values.size(), values);
    builder.lay(folder);
    return std::string(
        thrown_error([&] { Model::load(folder.path(), {.weights = "q4_0"}); }).what());
  };
  EXPECT_TRUE(contains(said(test::number_bytes(std::uint16_t{0x7FC0})),
                       "tensor model.layers.1.mlp.up_proj.weight holds a value that is not finite, "
                       "or too large for Q4_0, in row 0"));
  EXPECT_TRUE(contains(said(std::string(64 * 64, '\0')), "the download may be incomplete"));
}

}  // namespace
}  // namespace lapidary::testing
