#include <algorithm>
#include <map>
#include <string>

#include "base/boundary.h"
#include "base/format.h"
#include "lapidary/model.h"
#include "model/decoder.h"
#include "model/page_table.h"
#include "runtime/engine_plan.h"
#include "runtime/memory_plan.h"
#include "runtime/model_impl.h"
#include "text/chat_template.h"
#include "text/tokenizer_impl.h"
#include "vision/vision_weights.h"

namespace lapidary {

namespace {

constexpr int kInspectChunk = 512;  // SessionOptions' default.

std::vector<ModelInfo::TypeCount> count_types(const WeightSource& source) {
  std::map<std::string, ModelInfo::TypeCount> counts;
  for (const TensorInfo& tensor : source.tensors()) {
    const std::string name(find_block_traits(tensor.type)->name);
    ModelInfo::TypeCount& count = counts[name];
    count.type = name;
    count.tensors += 1;
    count.bytes += tensor.bytes;
  }
  std::vector<ModelInfo::TypeCount> types;
  types.reserve(counts.size());
  for (auto& [name, count] : counts) types.push_back(std::move(count));
  std::stable_sort(types.begin(), types.end(),
                   [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
  return types;
}

std::uint64_t bytes_of_keys_and_values(const ModelInfo& info, int tokens, bool global_only,
                                       KvType kv) {
  if (tokens <= 0) return 0;
  Config config;
  config.layers = info.layers;
  config.kv_heads = info.kv_heads;
  config.head_dim = info.head_dim;
  config.sliding_window = info.sliding_window;
  // How the kinds alternate does not matter here.
  config.local.assign(static_cast<std::size_t>(info.layers), true);
  std::fill_n(config.local.begin(), info.global_layers, false);
  const std::int64_t pages =
      sequence_pages(config, tokens, std::min(tokens, kInspectChunk), global_only);
  return static_cast<std::uint64_t>(pages) * kv_page_bytes(config, format_of(kv));
}

}  // namespace

ModelInfo describe(const WeightSource& source, const Config& config) {
  ModelInfo info;
  info.name = source.find_string(Key::kName).value_or("");
  info.architecture = "gemma3";
  info.layers = config.layers;
  info.width = config.width;
  info.feed_forward = config.feed_forward;
  info.query_heads = config.query_heads;
  info.kv_heads = config.kv_heads;
  info.head_dim = config.head_dim;
  info.sliding_window = config.sliding_window;
  info.global_layers =
      static_cast<int>(std::count(config.local.begin(), config.local.end(), false));
  info.trained_context = config.trained_context;
  info.vocabulary = config.vocabulary;
  const std::optional<std::string> chat = source.find_string(Key::kChatTemplate);
  info.chat_template = recognise_template(chat.value_or(""));
  info.instruction_tuned = info.chat_template != ChatTemplate::kNone;
  if (std::string unused = unused_tensors(source, config); !unused.empty())
    info.warnings.push_back(std::move(unused));
  for (const TensorInfo& tensor : source.tensors())
    info.parameters += tensor.columns() * tensor.rows();
  info.file_bytes = source.file_bytes();
  info.weight_bytes = packed_weight_bytes(source, config);
  info.vocabulary_bytes = vocabulary_bytes(info.vocabulary);
  info.bytes_per_token = weight_bytes_per_token(source, config);
  info.multiplications_per_token = multiplications_per_token(config);
  info.types = count_types(source);
  return info;
}

std::uint64_t ModelInfo::kv_bytes(int tokens, bool global_only, KvType kv) const {
  return at_boundary([&] { return bytes_of_keys_and_values(*this, tokens, global_only, kv); });
}

VisionInfo inspect_vision(const std::string& path) {
  return at_boundary([&] {
    const std::unique_ptr<WeightSource> source = open_source(path, Content::kVision);
    return describe_vision(path, *source, read_vision_config(*source));
  });
}

FileInfo inspect_file(const std::string& path) {
  return at_boundary([&] { return list_file(path); });
}

Tokenizer load_tokenizer(const std::string& path) {
  return at_boundary([&] {
    Tokenizer tokenizer = load_tokenizer(*open_source(path, Content::kVocabulary));
    finish_loading(tokenizer);
    return tokenizer;
  });
}

ModelInfo inspect(const std::string& path) {
  return at_boundary([&] {
    const std::unique_ptr<WeightSource> source = open_source(path, Content::kText);
    return describe(*source, read_config(*source));
  });
}

}  // namespace lapidary
