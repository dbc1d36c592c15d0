// Damaged configurations and tokenizers of folders: each is one line that names the file and the
// key.

#include <vector>

#include "folder_damage.h"

namespace lapidary::testing {
namespace {

std::vector<Damage> config_damages() {
  return {
      file("ConfigIsEmpty", "config.json", "", "config.json: is no valid JSON at byte 1"),
      file("ConfigIsCut", "config.json", R"({"model_type": "gemma3_te)", "is no valid JSON"),
      file("ConfigIsAString", "config.json", "\"gemma3\"", "holds a string, expected an object"),
      file("ConfigTwiceTheSame", "config.json", R"({"model_type":"gemma3","model_type":"x"})",
           "has \"model_type\" twice in one object"),
      file("ConfigIsHuge", "config.json", std::string(17 << 20, ' '),
           "has 17825792 bytes, expected at most 16777216"),
      config(
          "NoModelType", [](Json& c) { c.erase("model_type"); },
          "key model_type is missing, expected \"gemma3\" or \"gemma3_text\""),
      config(
          "AnotherModel", [](Json& c) { c["model_type"] = "gemma2"; },
          "key model_type is \"gemma2\", expected"),
      config(
          "ModelTypeIsAnObject",
          [](Json& c) {
            c["model_type"] = {{"a", 1}};
          },
          "key model_type is {\"a\":1}, expected"),
      config(
          "Gemma3n", [](Json& c) { c["model_type"] = "gemma3n"; }, "key model_type is \"gemma3n\""),
      config(
          "AnEmbeddingModel", [](Json& c) { c["use_bidirectional_attention"] = true; },
          "use_bidirectional_attention is true, expected false: a model that makes embeddings"),
      config(
          "Quantised",
          [](Json& c) {
            c["quantization_config"] = {{"quant_method", "awq"}};
          },
          "quantization_config: weights quantised by \"awq\" are not read"),
      config(
          "TextConfigIsAList", [](Json& c) { c["text_config"] = Json::array(); },
          "key text_config is a list, expected an object"),
      config(
          "LayersAreAString", [](Json& c) { c["num_hidden_layers"] = "2"; },
          "key num_hidden_layers is \"2\", expected an integer"),
      config(
          "NegativeLayers", [](Json& c) { c["num_hidden_layers"] = -2; },
          "key num_hidden_layers is -2, expected 0 or more"),
      config(
          "ManyLayers", [](Json& c) { c["num_hidden_layers"] = 1 << 30; },
          "key num_hidden_layers is 1073741824, expected 1 to 512"),
      config(
          "MoreLayersThanThere", [](Json& c) { c["num_hidden_layers"] = 3; },
          "layers.2.input_layernorm.weight is missing"),
      config(
          "FewerLayersThanThere", [](Json& c) { c["num_hidden_layers"] = 1; },
          "belongs to a layer, but no Gemma 3 layer has it"),
      config(
          "FractionalWidth", [](Json& c) { c["hidden_size"] = 32.5; },
          "key hidden_size is 32.5, expected an integer"),
      config(
          "OddWidth", [](Json& c) { c["hidden_size"] = 33; },
          "key hidden_size is 33, expected a multiple of 32"),
      config(
          "AnotherWidth", [](Json& c) { c["hidden_size"] = 64; }, "expected 64x272"),
      config(
          "HeadsDoNotShare", [](Json& c) { c["num_key_value_heads"] = 3; },
          "key num_attention_heads is 2, expected a multiple of 3, num_key_value_heads"),
      config(
          "NoEpsilon", [](Json& c) { c["rms_norm_eps"] = 0; }, "key rms_norm_eps is 0, expected"),
      config(
          "EpsilonIsAString", [](Json& c) { c["rms_norm_eps"] = "1e-6"; },
          "key rms_norm_eps is \"1e-6\", expected a number"),
      config(
          "Biases", [](Json& c) { c["attention_bias"] = true; },
          "key attention_bias is true, expected false"),
      config(
          "AnotherActivation", [](Json& c) { c["hidden_activation"] = "silu"; },
          "key hidden_activation is \"silu\", expected \"gelu_pytorch_tanh\""),
      config(
          "CappedAttention", [](Json& c) { c["attn_logit_softcapping"] = 50.0; },
          "key attn_logit_softcapping is 50.0, expected null"),
      config(
          "AnUnknownLayer",
          [](Json& c) {
            c["layer_types"] = Json::array({"sliding_attention", "linear"});
          },
          "key layer_types holds \"linear\", expected \"sliding_attention\""),
      config(
          "LayerTypesAreAString", [](Json& c) { c["layer_types"] = "full_attention"; },
          "key layer_types is \"full_attention\", expected a list"),
      config(
          "TooFewLayerTypes", [](Json& c) { c["layer_types"] = Json::array({"full_attention"}); },
          "key layer_types has 1 values, expected one for each of the 2 layers"),
      config(
          "PatternOfZero", [](Json& c) { c["sliding_window_pattern"] = 0; },
          "key sliding_window_pattern is 0, expected 1 to"),
      config(
          "AnotherRope",
          [](Json& c) {
            c["rope_scaling"] = {{"rope_type", "yarn"}};
          },
          "key rope_scaling.rope_type is 'yarn', expected linear or none"),
      config(
          "ScaledWindows",
          [](Json& c) {
            c["rope_parameters"] = {{"sliding_attention", {{"rope_type", "linear"}}}};
          },
          "sliding_attention.rope_type is \"linear\", expected \"default\""),
      config(
          "RopeIsANumber", [](Json& c) { c["rope_parameters"] = 8; },
          "key rope_parameters is an integer, expected an object"),
      config(
          "TiedIsAString", [](Json& c) { c["tie_word_embeddings"] = "yes"; },
          "key tie_word_embeddings is \"yes\", expected true or false"),
      config(
          "NoHeadThoughUntied", [](Json& c) { c["tie_word_embeddings"] = false; },
          "lm_head.weight is missing, though key tie_word_embeddings"),
      config(
          "StopIsAString", [](Json& c) { c["eos_token_id"] = "<eos>"; },
          "key eos_token_id is \"<eos>\", expected an integer"),
      config(
          "StopIsNoToken", [](Json& c) { c["eos_token_id"] = 5000; },
          "key eos_token_id is 5000, expected 0 to 269"),
      config(
          "ManyStops", [](Json& c) { c["eos_token_id"] = Json(std::vector<int>(65, 1)); },
          "key eos_token_id has 65 ids, expected at most 64"),
      config(
          "OneOfTheStopsIsNoToken",
          [](Json& c) {
            c["eos_token_id"] = Json::array({1, 5000});
          },
          "key eos_token_id holds 5000, expected 0 to 269"),
      config(
          "OneOfTheStopsIsAString",
          [](Json& c) {
            c["eos_token_id"] = Json::array({1, "<eos>"});
          },
          "key eos_token_id is [1,\"<eos>\"], expected a list of integers"),
      file("GenerationIsNoJson", "generation_config.json", "{,}",
           "generation_config.json: is no valid JSON"),
      file("TemplateIsANumber", "tokenizer_config.json", R"({"chat_template": 1})",
           "tokenizer_config.json: key chat_template is 1, expected a string"),
      file("TemplateIsHuge", "chat_template.jinja", std::string(2 << 20, 't'),
           "chat_template.jinja: has 2097152 bytes, expected at most 1048576"),
  };
}

INSTANTIATE_TEST_SUITE_P(Config, DamagedFolder, ::testing::ValuesIn(config_damages()),
                         [](const auto& damage) { return damage.param.name; });

std::vector<Damage> tokenizer_damages() {
  const auto bytes_of = [](std::initializer_list<int> list) {
    std::string text;
    for (const int byte : list) text += static_cast<char>(byte);
    return text;
  };
  return {
      proto(
          "ProtoOfNoField",
          [=](std::string& p) {
            p += bytes_of({0x00, 0x00});
          },
          "has a field without a number: no SentencePiece model"),
      proto(
          "ProtoCutInAPiece", [](std::string& p) { p.resize(100); },
          "are left: no SentencePiece model"),
      proto(
          "ProtoIsText", [](std::string& p) { p = "version 0.2"; }, "no SentencePiece model"),
      proto(
          "ProtoOfALongVarint", [=](std::string& p) { p += std::string(12, '\xFF'); },
          "has a number of more than 64 bits"),
      proto(
          "ProtoLengthOf2To63",
          [=](std::string& p) {
            p += bytes_of({0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F});
          },
          "has a field of 9223372036854775807 bytes where 0 are left"),
      proto(
          "ProtoGroup", [=](std::string& p) { p += bytes_of({0x0B}); }, "has a field of kind 3"),
      proto(
          "ProtoPieceIsANumber",
          [=](std::string& p) {
            p += bytes_of({0x08, 0x01});
          },
          "has another kind of field as piece"),
      proto(
          "ProtoScoreIsText",
          [=](std::string& p) {
            p += bytes_of({0x0A, 0x03, 0x12, 0x01, 0x61});
          },
          "has another kind of field as score"),
      proto(
          "ProtoOfNoPieces",
          [=](std::string& p) {
            p = bytes_of({0x12, 0x02, 0x18, 0x02});
          },
          "has no pieces: no SentencePiece model"),
      proto(
          "ProtoOfNoTrainer",
          [=](std::string& p) {
            p = bytes_of({0x0A, 0x03, 0x0A, 0x01, 0x61});
          },
          "has no trainer_spec"),
      proto(
          "ProtoUnigram",
          [=](std::string& p) {
            p += bytes_of({0x12, 0x02, 0x18, 0x01});
          },
          "trainer_spec.model_type is 1, expected 2 (byte pairs)"),
      proto(
          "ProtoWithAPrefix",
          [=](std::string& p) {
            p += bytes_of({0x1A, 0x00});
          },
          "normalizer_spec.add_dummy_prefix is 1, expected 0"),
      proto(
          "ProtoWithATable",
          [=](std::string& p) {
            p += bytes_of({0x1A, 0x03, 0x12, 0x01, 0x61});
          },
          "normalizer_spec.precompiled_charsmap is 1, expected 0"),
      proto(
          "ProtoTypeOf9",
          [=](std::string& p) {
            p += bytes_of({0x0A, 0x05, 0x0A, 0x01, 0x7A, 0x18, 0x09});
          },
          "token 270 has type 0, expected 1 to 6"),
      proto(
          "ProtoTwoUnknown",
          [=](std::string& p) {
            p += bytes_of({0x0A, 0x05, 0x0A, 0x01, 0x7A, 0x18, 0x02});
          },
          "tokens 3 and 270 are both of type unknown"),
      proto(
          "ProtoEmptyToken",
          [=](std::string& p) {
            p += bytes_of({0x0A, 0x02, 0x0A, 0x00});
          },
          "has no text for token 270"),
      proto(
          "ProtoSpeltAlike",
          [=](std::string& p) {
            p += bytes_of({0x0A, 0x07, 0x0A, 0x05}) + "<eos>";
          },
          "token"),
      {"MoreTokensThanRows",
       [=](FolderBuilder& f) {
         for (int i = 0; i < 3; ++i) {
           f.tokenizer += bytes_of({0x0A, 0x04, 0x0A, 0x02}) + "z" + std::to_string(i);
         }
       },
       "has 272 rows, fewer than the 273 of key pieces"},
      file("JsonIsEmpty", "tokenizer.model", "", "has no pieces: no SentencePiece model"),
      tokenizer_json(
          "JsonIsAList", [](Json& t) { t = Json::array(); },
          "tokenizer.json holds a list, expected an object"),
      tokenizer_json(
          "JsonWithoutModel", [](Json& t) { t.erase("model"); }, "key model is missing"),
      tokenizer_json(
          "JsonOfWords", [](Json& t) { t["model"]["type"] = "WordPiece"; },
          "key model.type is \"WordPiece\", expected \"BPE\""),
      tokenizer_json(
          "JsonWithoutFallback", [](Json& t) { t["model"]["byte_fallback"] = false; },
          "key model.byte_fallback is false, expected true"),
      tokenizer_json(
          "JsonWithDropout", [](Json& t) { t["model"]["dropout"] = 0.1; },
          "key model.dropout is 0.1, expected null"),
      tokenizer_json(
          "JsonIgnoresMerges", [](Json& t) { t["model"]["ignore_merges"] = true; },
          "key model.ignore_merges is true, expected false"),
      tokenizer_json(
          "JsonWithASuffix", [](Json& t) { t["model"]["end_of_word_suffix"] = "</w>"; },
          "key model.end_of_word_suffix is \"</w>\", expected null"),
      tokenizer_json(
          "JsonNormalizes",
          [](Json& t) {
            t["normalizer"] = {{"type", "NFKC"}};
          },
          "key normalizer is {\"type\":\"NFKC\"}, expected to replace spaces"),
      tokenizer_json(
          "JsonWithoutVocabulary", [](Json& t) { t["model"].erase("vocab"); },
          "key model.vocab is missing"),
      tokenizer_json(
          "JsonWithEmptyVocabulary",
          [](Json& t) {
            t["model"]["vocab"] = Json::object();
            t["added_tokens"] = Json::array();
          },
          "key model.vocab is empty"),
      tokenizer_json(
          "JsonVocabularyOfLists", [](Json& t) { t["model"]["vocab"]["a"] = Json::array({1}); },
          "key model.vocab holds another thing than tokens and ids"),
      tokenizer_json(
          "JsonVocabularyOfStrings", [](Json& t) { t["model"]["vocab"]["a"] = "1"; },
          "key model.vocab holds another thing than tokens and ids"),
      tokenizer_json(
          "JsonNegativeId", [](Json& t) { t["model"]["vocab"]["a"] = -1; },
          "key model.vocab holds another thing than tokens and ids"),
      tokenizer_json(
          "JsonHugeId", [](Json& t) { t["model"]["vocab"]["a"] = 16777215; },
          "token \"a\" has id 16777215, expected less than the 270 of all tokens"),
      tokenizer_json(
          "JsonIdOf2To63", [](Json& t) { t["model"]["vocab"]["a"] = std::uint64_t{1} << 63; },
          "token \"a\" has id 9223372036854775808, expected less than 600"),
      tokenizer_json(
          "JsonTwoOfAnId", [](Json& t) { t["model"]["vocab"]["a"] = 0; },
          "id 0 is that of two tokens"),
      tokenizer_json(
          "JsonTwoOfAText",
          [](Json& t) {
            t["added_tokens"].push_back({{"id", 270}, {"content", "ab"}});
          },
          "token 270 is spelt like one before it"),
      tokenizer_json(
          "JsonWithoutMerges", [](Json& t) { t["model"].erase("merges"); },
          "key model.merges is missing"),
      tokenizer_json(
          "JsonMergesAreANumber", [](Json& t) { t["model"]["merges"] = 4; },
          "key model.merges is missing"),
      tokenizer_json(
          "JsonMergeOfThree", [](Json& t) { t["model"]["merges"][0].push_back("c"); },
          "key model.merges holds another thing than pairs of texts, at merge 0"),
      tokenizer_json(
          "JsonMergeOfANumber", [](Json& t) { t["model"]["merges"][1] = 1; },
          "another thing than pairs of texts, at merge 1"),
      tokenizer_json(
          "JsonMergeWithoutASpace", [](Json& t) { t["model"]["merges"][1] = "ab"; },
          "another thing than pairs of texts, at merge 1"),
      tokenizer_json(
          "JsonMergeOfNoTokens",
          [](Json& t) {
            t["model"]["merges"][0] = Json::array({"b", "a"});
          },
          "has \"b\" and \"a\" at merge 0, which are no tokens, or make none"),
      tokenizer_json(
          "JsonMergesWithoutEnd",
          [](Json& t) {
            for (int i = 0; i < 5000; ++i) t["model"]["merges"].push_back(Json::array({"a", "b"}));
          },
          "key model.merges has more merges than its tokens can be made in"),
      tokenizer_json(
          "JsonAddedIsNoList", [](Json& t) { t["added_tokens"] = "x"; },
          "key added_tokens is no list"),
      tokenizer_json(
          "JsonAddedWithoutId", [](Json& t) { t["added_tokens"][0].erase("id"); },
          "key added_tokens holds another thing than tokens with an id and a content"),
      tokenizer_json(
          "JsonAddedStripsSpaces",
          [](Json& t) {
            t["added_tokens"].push_back({{"id", 270}, {"content", "<b>"}, {"lstrip", true}});
          },
          "key added_tokens has \"<b>\" with lstrip"),
      tokenizer_json(
          "JsonWithoutUnknown", [](Json& t) { t["model"]["unk_token"] = nullptr; },
          "key model.unk_token is missing"),
      tokenizer_json(
          "JsonUnknownIsNoToken", [](Json& t) { t["model"]["unk_token"] = "<what>"; },
          "key model.unk_token is no token"),
      {"JsonIsCut",
       [](FolderBuilder& f) {
         f.with_json(FolderBuilder::small_json());
         std::string& text = f.files["tokenizer.json"];
         text.resize(text.size() - 1);
       },
       "tokenizer.json: is no valid JSON at byte"},
  };
}

INSTANTIATE_TEST_SUITE_P(Tokenizer, DamagedFolder, ::testing::ValuesIn(tokenizer_damages()),
                         [](const auto& damage) { return damage.param.name; });

}  // namespace
}  // namespace lapidary::testing
