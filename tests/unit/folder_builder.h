#pragma once

// Folders as Hugging Face publishes models in, made by hand: a small whole one, and ways to damage
// each of its files.

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "gguf_builder.h"
#include "memory_source.h"
#include "text/vocabulary.h"

namespace lapidary::test {

/// A folder of its own, gone with this.
class TempFolder {
 public:
  TempFolder() {
    const char* const at = std::getenv("TMPDIR");
    path_ = std::string(at != nullptr && *at != 0 ? at : "/tmp") + "/lapidary-XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error("no temporary folder");
  }
  ~TempFolder() {
    std::error_code none;
    std::filesystem::remove_all(path_, none);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  void write(const std::string& name, const std::string& content) const {
    std::ofstream out(path_ + "/" + name, std::ios::binary);
    out.write(content.data(), static_cast<std::streamsize>(content.size()));
    if (!out.flush()) throw std::runtime_error("cannot write " + name);
  }

 private:
  std::string path_;
};

/// A safetensors file.
struct Safetensors {
  using Json = nlohmann::ordered_json;
  Json header = Json::object();
  std::string data;

  void add(const std::string& name, const char* dtype, const std::vector<int>& shape,
           const std::string& bytes) {
    header[name] = {{"dtype", dtype},
                    {"shape", shape},
                    {"data_offsets", {data.size(), data.size() + bytes.size()}}};
    data += bytes;
  }
  static std::string of(const std::string& header_text, const std::string& data) {
    return number_bytes(std::uint64_t{header_text.size()}) + header_text + data;
  }
  std::string build() const { return of(header.dump(), data); }
};

/// `count` bf16 numbers around `level`.
inline std::string bf16_values(int count, std::uint16_t level = 0x3D00) {
  std::string bytes;
  for (int i = 0; i < count; ++i) {
    const auto sign = static_cast<std::uint16_t>(i % 3 == 0 ? 0x8000 : 0);
    bytes += number_bytes(static_cast<std::uint16_t>((level + i * 37 % 128) | sign));
  }
  return bytes;
}

/// A whole folder: two layers, the second one global. All files may be changed before it is laid.
class FolderBuilder {
 public:
  using Json = nlohmann::ordered_json;
  static constexpr int kWidth = 32, kForward = 64, kLayers = 2, kVocabulary = 272;

  FolderBuilder() {
    config = {{"architectures", Json::array({"Gemma3ForCausalLM"})},
              {"model_type", "gemma3_text"},
              {"hidden_size", kWidth},
              {"intermediate_size", kForward},
              {"num_hidden_layers", kLayers},
              {"num_attention_heads", 2},
              {"num_key_value_heads", 1},
              {"head_dim", 32},
              {"sliding_window", 16},
              {"sliding_window_pattern", 2},
              {"query_pre_attn_scalar", 32},
              {"max_position_embeddings", 512}};
    const auto matrix = [this](const std::string& name, int rows, int columns) {
      tensors.add("model." + name + ".weight", "BF16", {rows, columns},
                  bf16_values(rows * columns));
    };
    const auto norm = [this](const std::string& name, int width) {
      tensors.add("model." + name + ".weight", "BF16", {width}, bf16_values(width));
    };
    matrix("embed_tokens", kVocabulary, kWidth);
    for (int i = 0; i < kLayers; ++i) {
      const std::string layer = "layers." + std::to_string(i) + ".";
      for (const char* name : {"input_layernorm", "post_attention_layernorm",
                               "pre_feedforward_layernorm", "post_feedforward_layernorm"})
        norm(layer + name, kWidth);
      matrix(layer + "self_attn.q_proj", 64, kWidth);
      matrix(layer + "self_attn.k_proj", 32, kWidth);
      matrix(layer + "self_attn.v_proj", 32, kWidth);
      matrix(layer + "self_attn.o_proj", kWidth, 64);
      norm(layer + "self_attn.q_norm", 32);
      norm(layer + "self_attn.k_norm", 32);
      matrix(layer + "mlp.gate_proj", kForward, kWidth);
      matrix(layer + "mlp.up_proj", kForward, kWidth);
      matrix(layer + "mlp.down_proj", kWidth, kForward);
    }
    norm("norm", kWidth);
    tokenizer = small_proto();
  }

  /// The vocabulary of small_vocabulary() as SentencePiece writes it.
  static std::string small_proto() {
    MemorySource source = small_vocabulary();
    Pieces pieces;
    pieces.texts = source.tokens();
    for (std::size_t i = 0; i < pieces.texts.size(); ++i) {
      pieces.scores.push_back(static_cast<float>(source.scores()[i]));
      pieces.types.push_back(static_cast<TokenType>(source.types()[i]));
    }
    pieces.types[3] = TokenType::kUnknown;
    pieces.unknown = 3;
    const PagedString proto = serialize_model_proto(pieces);
    return {proto.begin(), proto.end()};
  }

  /// The same as the tokenizers library writes it.
  static Json small_json() {
    MemorySource source = small_vocabulary();
    Json vocabulary = Json::object(), added = Json::array();
    for (std::size_t i = 0; i < source.tokens().size(); ++i) {
      vocabulary[source.tokens()[i]] = i;
      const std::int64_t type = source.types()[i];
      if (type == 3 || type == 4)
        added.push_back({{"id", i}, {"content", source.tokens()[i]}, {"special", type == 3}});
    }
    const Json merges = Json::array({Json::array({"a", "b"}), Json::array({"\xE2\x96\x81", "a"})});
    return {{"version", "1.0"},
            {"added_tokens", added},
            {"normalizer",
             {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\xE2\x96\x81"}}},
            {"model",
             {{"type", "BPE"},
              {"dropout", nullptr},
              {"unk_token", "<unk>"},
              {"fuse_unk", true},
              {"byte_fallback", true},
              {"ignore_merges", false},
              {"vocab", vocabulary},
              {"merges", merges}}}};
  }

  /// tokenizer.json instead of tokenizer.model.
  FolderBuilder& with_json(const Json& content) {
    tokenizer.clear();
    files["tokenizer.json"] = content.dump();
    return *this;
  }

  /// The tensors in two files and an index.
  FolderBuilder& in_two() {
    Safetensors parts[2];
    Json map = Json::object();
    for (const auto& [name, entry] : tensors.header.items()) {
      const auto i = static_cast<std::size_t>(map.size() % 2);
      const std::size_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
      parts[i].add(name, "BF16", entry["shape"], tensors.data.substr(begin, end - begin));
      map[name] = kNames[i];
    }
    for (std::size_t i = 0; i < 2; ++i) files[kNames[i]] = parts[i].build();
    files["model.safetensors.index.json"] =
        Json{{"metadata", {{"total_size", 1}}}, {"weight_map", map}}.dump();
    whole = false;
    return *this;
  }
  static constexpr const char* kNames[2] = {"model-00001-of-00002.safetensors",
                                            "model-00002-of-00002.safetensors"};

  void lay(const TempFolder& folder) const {
    if (!config.is_null()) folder.write("config.json", config.dump());
    if (!tokenizer.empty()) folder.write("tokenizer.model", tokenizer);
    if (whole) folder.write("model.safetensors", tensors.build());
    for (const auto& [name, content] : files) folder.write(name, content);
  }

  Json config;
  Safetensors tensors;
  std::string tokenizer;
  std::map<std::string, std::string> files;  // Others, or instead of those above.
  bool whole = true;                         // All tensors in one file.
};

}  // namespace lapidary::test
