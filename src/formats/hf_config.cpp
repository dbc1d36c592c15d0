#include "formats/hf_config.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/format.h"
#include "base/printable.h"
#include "lapidary/error.h"

namespace lapidary {
namespace {

constexpr const char* kConfig = "config.json";

// A key of config.json and what transformers takes where the file has none.
struct KeyName {
  Key key;
  const char* name;
  double fallback;  // Whole ones stand for integers.
};

constexpr KeyName kTextKeys[] = {
    {Key::kLayers, "num_hidden_layers", 26},
    {Key::kWidth, "hidden_size", 2304},
    {Key::kFeedForward, "intermediate_size", 9216},
    {Key::kHeads, "num_attention_heads", 8},
    {Key::kKvHeads, "num_key_value_heads", 4},
    {Key::kHeadDim, "head_dim", 256},
    {Key::kTrainedContext, "max_position_embeddings", 131072},
    {Key::kNormEpsilon, "rms_norm_eps", 1e-6},
    {Key::kQueryScalar, "query_pre_attn_scalar", 256},
};

constexpr KeyName kVisionKeys[] = {
    {Key::kLayers, "num_hidden_layers", 12},        {Key::kWidth, "hidden_size", 768},
    {Key::kFeedForward, "intermediate_size", 3072}, {Key::kHeads, "num_attention_heads", 12},
    {Key::kImageSize, "image_size", 224},           {Key::kPatchSize, "patch_size", 16},
    {Key::kNormEpsilon, "layer_norm_eps", 1e-6},
};

Json number(double value) {
  const double whole = std::floor(value);
  return whole == value ? Json(static_cast<std::uint64_t>(whole)) : Json(value);
}

std::string text_of(const Json& value) {
  return printable_value(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

[[noreturn]] void fail_at(const std::string& file, const std::string& name,
                          const std::string& what) {
  throw Error(ErrorCode::kFile, file + ": key " + printable_value(name) + what);
}

[[noreturn]] void fail_without_config(const HfFolder& folder) {
  throw Error(ErrorCode::kFile, folder.path() +
                                    ": has no config.json: expected a GGUF file or a "
                                    "folder as Hugging Face publishes models in");
}

}  // namespace

HfConfig::Value HfConfig::take(const Section& section, const char* name, Json fallback) const {
  Value value{folder_.path() + "/" + kConfig, section.prefix + name, std::move(fallback)};
  const auto found = section.object->find(name);
  if (found != section.object->end() && !found->is_null()) value.value = *found;
  return value;
}

/// Throws unless the key is absent, null or `only`.
void HfConfig::refuse_unless(const Section& section, const char* name, const Json& only,
                             const std::string& why) const {
  const Value value = take(section, name);
  if (value.value.is_null() || value.value == only) return;
  fail_at(value.file, value.name,
          " is " + text_of(value.value) + ", expected " + text_of(only) +
              (why.empty() ? "" : ": " + why));
}

HfConfig::Section HfConfig::section(const Json& config, const char* name) const {
  const auto found = config.find(name);
  if (found == config.end()) {
    static const Json kEmpty = Json::object();
    return {&kEmpty, std::string(name) + "."};
  }
  if (!found->is_object()) {
    fail_at(folder_.path() + "/" + kConfig, name,
            format(" is {}, expected an object", kind_of(*found)));
  }
  return {&*found, std::string(name) + "."};
}

HfConfig::HfConfig(const HfFolder& folder, Content content) : folder_(folder) {
  const std::optional<Json> config = folder.read_object(kConfig);
  if (content == Content::kVocabulary) {
    read_stops(config ? *config : Json::object());
    return;
  }
  if (!config) fail_without_config(folder);
  const Section top{&*config, ""};
  const Value type = take(top, "model_type");
  if (type.value != "gemma3" && type.value != "gemma3_text") {
    fail_at(type.file, type.name,
            (type.value.is_null() ? std::string(" is missing") : " is " + text_of(type.value)) +
                ", expected \"gemma3\" or \"gemma3_text\"");
  }
  const Value quantised = take(top, "quantization_config");
  if (!quantised.value.is_null()) {
    const Json method = quantised.value.is_object() && quantised.value.contains("quant_method")
                            ? quantised.value["quant_method"]
                            : Json(nullptr);
    fail_at(quantised.file, quantised.name,
            ": weights quantised by " + text_of(method) +
                " are not read; take the folder they were made of, and --weights");
  }
  has_vision_ = type.value == "gemma3" && config->contains("vision_config") &&
                !config->at("vision_config").is_null();
  if (content == Content::kVision) {
    read_vision(*config);
    return;
  }
  read_text(*config);
  read_stops(*config);
  read_template();
}

void HfConfig::read_text(const Json& config) {
  const bool flat = !config.contains("text_config");
  const Section text = flat ? Section{&config, ""} : section(config, "text_config");
  for (const KeyName& row : kTextKeys)
    values_.emplace(row.key, take(text, row.name, number(row.fallback)));
  refuse_unless(text, "use_bidirectional_attention", false,
                "a model that makes embeddings of texts, not texts");
  refuse_unless(text, "attention_bias", false, "");
  refuse_unless(text, "hidden_activation", "gelu_pytorch_tanh", "");
  const Value softcap = take(text, "attn_logit_softcapping");
  if (!softcap.value.is_null())
    fail_at(softcap.file, softcap.name, " is " + text_of(softcap.value) + ", expected null");
  values_.emplace(Key::kLogitSoftcap, take(text, "final_logit_softcapping"));
  Value window = take(text, "sliding_window", 4096U);
  // Null is no default: every layer sees everything.
  if (text.object->contains("sliding_window") && text.object->at("sliding_window").is_null())
    window.value = 0U;
  values_.emplace(Key::kSlidingWindow, std::move(window));
  read_layers(text);
  read_rope(text);
  Value tied = take(text, "tie_word_embeddings");
  if (tied.value.is_null()) tied = take({&config, ""}, "tie_word_embeddings", true);
  if (!tied.value.is_boolean()) fail(tied, "true or false");
  tied_ = tied.value.get<bool>();
  Value name = take({&config, ""}, "_name_or_path");
  if (!name.value.is_string() || name.value.get_ref<const std::string&>().empty())
    name.value = folder_.model_name();
  values_.emplace(Key::kName, std::move(name));
}

/// Which layers are local: a list, or else every so manyth is global.
void HfConfig::read_layers(const Section& text) {
  Value types = take(text, "layer_types");
  if (types.value.is_null()) {
    Value pattern = take(text, "sliding_window_pattern");
    if (pattern.value.is_null()) pattern = take(text, "_sliding_window_pattern", 6U);
    values_.emplace(Key::kSlidingPattern, std::move(pattern));
    return;
  }
  if (!types.value.is_array()) fail(types, "a list");
  for (Json& type : types.value) {
    const bool local = type == "sliding_attention";
    if (!local && type != "full_attention") {
      fail_at(types.file, types.name,
              " holds " + text_of(type) + ", expected \"sliding_attention\" or \"full_attention\"");
    }
    type = local ? 1 : 0;
  }
  values_.emplace(Key::kSlidingPattern, std::move(types));
}

/// Both generations: rope_theta, rope_local_base_freq and rope_scaling, or rope_parameters with a
/// section for each kind of layer.
void HfConfig::read_rope(const Section& text) {
  const Value parameters = take(text, "rope_parameters");
  Section global = text, local = text, scaling = text;
  const char* local_name = "rope_local_base_freq";
  if (!parameters.value.is_null()) {
    const Section all = section(*text.object, "rope_parameters");
    const auto part = [&](const char* name) {
      Section found = section(*all.object, name);
      found.prefix = text.prefix + all.prefix + found.prefix;
      return found;
    };
    if (all.object->contains("full_attention") || all.object->contains("sliding_attention")) {
      scaling = global = part("full_attention");
      local = part("sliding_attention");
      local_name = "rope_theta";
      refuse_unless(local, "rope_type", "default", "");
    } else {
      scaling = global = {all.object, text.prefix + all.prefix};
    }
  } else {
    const Value old = take(text, "rope_scaling");
    static const Json kNone = {{"rope_type", "default"}};
    scaling = {&kNone, text.prefix + "rope_scaling."};
    if (!old.value.is_null()) {
      scaling = section(*text.object, "rope_scaling");
      scaling.prefix = text.prefix + scaling.prefix;
    }
  }
  values_.emplace(Key::kRopeBase, take(global, "rope_theta", 1000000));
  values_.emplace(Key::kLocalRopeBase, take(local, local_name, 10000));
  Value type = take(scaling, "rope_type");
  if (type.value.is_null()) type = take(scaling, "type", "default");
  if (type.value == "default") type.value = "none";
  values_.emplace(Key::kRopeScaling, std::move(type));
  values_.emplace(Key::kRopeFactor, take(scaling, "factor"));
}

void HfConfig::read_vision(const Json& config) {
  if (!has_vision_) {
    throw Error(ErrorCode::kFile,
                folder_.path() + "/" + kConfig + ": key vision_config is missing: a text model");
  }
  const Section vision = section(config, "vision_config");
  for (const KeyName& row : kVisionKeys)
    values_.emplace(row.key, take(vision, row.name, number(row.fallback)));
  refuse_unless(vision, "hidden_act", "gelu_pytorch_tanh", "");
  refuse_unless(vision, "num_channels", 3, "");
  values_.emplace(Key::kTextWidth, take(section(config, "text_config"), "hidden_size", 2304U));
  read_pool(config, vision);
  // What transformers 5 calls its image_processor's section, earlier releases have in a file.
  for (const char* file : {"preprocessor_config.json", "processor_config.json"}) {
    std::optional<Json> settings = folder_.read_object(file);
    if (!settings) continue;
    const bool nested = settings->contains("image_processor");
    const Section own = nested ? section(*settings, "image_processor") : Section{&*settings, ""};
    for (const auto& [key, name] :
         {std::pair(Key::kImageMean, "image_mean"), std::pair(Key::kImageDeviation, "image_std")}) {
      Value value = take(own, name);
      value.file = folder_.path() + "/" + file;
      if (!value.value.is_null()) values_.emplace(key, std::move(value));
    }
  }
}

/// A folder says how many tokens a picture becomes, not how many patches become one.
void HfConfig::read_pool(const Json& config, const Section& vision) {
  Value tokens = take({&config, ""}, "mm_tokens_per_image", 256U);
  const Json size = take(vision, "image_size", 224U).value,
             patch = take(vision, "patch_size", 16U).value;
  values_.emplace(Key::kPool, std::move(tokens));
  Value& pool = values_.at(Key::kPool);
  if (!pool.value.is_number_unsigned()) fail(pool, "an integer");
  const auto count = pool.value.get<std::uint64_t>();
  const auto side = static_cast<std::uint64_t>(std::lround(std::sqrt(static_cast<double>(count))));
  if (count == 0 || count > 65536 || side * side != count) fail(pool, "a square of 1 to 256");
  // What is wrong with the others is said where they are read.
  if (!size.is_number_unsigned() || !patch.is_number_unsigned() || patch == 0U) return;
  const std::uint64_t patches = size.get<std::uint64_t>() / patch.get<std::uint64_t>();
  if (patches % side != 0) {
    fail_at(pool.file, pool.name,
            format(" is {}, of which {} patches on a side are no multiple", count, patches));
  }
  pool.value = patches / side;
}

/// The ids that end a text: one, or a list.
void HfConfig::read_stops(const Json& config) {
  Value stops = take({&config, ""}, "eos_token_id");
  if (stops.value.is_null() && config.contains("text_config"))
    stops = take(section(config, "text_config"), "eos_token_id");
  if (const std::optional<Json> generation = folder_.read_object("generation_config.json")) {
    const auto found = generation->find("eos_token_id");
    if (found != generation->end() && !found->is_null())
      stops = {folder_.path() + "/generation_config.json", "eos_token_id", *found};
  }
  constexpr std::size_t kMost = 64;
  if (stops.value.is_array() && stops.value.size() > kMost) {
    fail_at(stops.file, stops.name,
            format(" has {} ids, expected at most {}", stops.value.size(), kMost));
  }
  values_.emplace(Key::kEos, std::move(stops));
}

/// A file of its own, or a member of the tokenizer's or the processor's settings.
void HfConfig::read_template() {
  constexpr const char* kName = "chat_template";
  constexpr std::uint64_t kMost = std::uint64_t{1} << 20;
  if (const std::optional<PagedString> text = folder_.read("chat_template.jinja", kMost)) {
    values_.emplace(Key::kChatTemplate, Value{folder_.path() + "/chat_template.jinja", kName,
                                              std::string(text->begin(), text->end())});
    return;
  }
  for (const char* file : {"chat_template.json", "tokenizer_config.json"}) {
    const std::optional<Json> settings = folder_.read_object(file);
    if (!settings || !settings->contains(kName)) continue;
    Value value{folder_.path() + "/" + file, kName, settings->at(kName)};
    if (value.value.is_array()) {  // Of several, each with its name.
      Json chosen = nullptr;
      for (const Json& one : value.value) {
        if (one.is_object() && one.value("name", Json()) == "default")
          chosen = one.value("template", Json());
      }
      value.value = std::move(chosen);
    }
    if (value.value.is_null()) continue;
    values_.emplace(Key::kChatTemplate, std::move(value));
    return;
  }
}

const HfConfig::Value* HfConfig::find(Key key) const {
  const auto found = values_.find(key);
  return found == values_.end() || found->second.value.is_null() ? nullptr : &found->second;
}

void HfConfig::fail(const Value& value, const std::string& expected) const {
  fail_at(value.file, value.name, " is " + text_of(value.value) + ", expected " + expected);
}

std::optional<std::uint64_t> HfConfig::find_uint(Key key) const {
  const Value* const value = find(key);
  if (value == nullptr) return {};
  if (!value->value.is_number_unsigned())
    fail(*value, value->value.is_number_integer() ? "0 or more" : "an integer");
  return value->value.get<std::uint64_t>();
}

std::optional<double> HfConfig::find_float(Key key) const {
  const Value* const value = find(key);
  if (value == nullptr) return {};
  if (!value->value.is_number()) fail(*value, "a number");
  return value->value.get<double>();
}

std::optional<std::string> HfConfig::find_string(Key key) const {
  const Value* const value = find(key);
  if (value == nullptr) return {};
  if (!value->value.is_string()) fail(*value, "a string");
  return value->value.get<std::string>();
}

std::optional<PagedVector<double>> HfConfig::find_floats(Key key) const {
  const Value* const value = find(key);
  if (value == nullptr) return {};
  PagedVector<double> numbers;
  if (!value->value.is_array()) fail(*value, "a list of numbers");
  for (const Json& one : value->value) {
    if (!one.is_number()) fail(*value, "a list of numbers");
    numbers.push_back(one.get<double>());
  }
  return numbers;
}

std::optional<PagedVector<std::int64_t>> HfConfig::find_ints(Key key) const {
  const Value* const value = find(key);
  if (value == nullptr) return {};
  PagedVector<std::int64_t> numbers;
  if (!value->value.is_array()) fail(*value, "a list of integers");
  for (const Json& one : value->value) {
    if (!one.is_number_integer()) fail(*value, "a list of integers");
    numbers.push_back(one.get<std::int64_t>());
  }
  return numbers;
}

std::optional<ArraySize> HfConfig::array_size(Key key) const {
  const Value* const value = find(key);
  if (value == nullptr || !value->value.is_array()) return {};
  return ArraySize{value->value.size(), 8 * value->value.size()};
}

std::string HfConfig::name(Key key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? std::string() : found->second.name;
}

std::string HfConfig::where(Key key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? folder_.path() + "/" + kConfig
                                : found->second.file + ": key " + found->second.name;
}

FileInfo HfConfig::list(const HfFolder& folder) {
  FileInfo info;
  const std::optional<Json> config = folder.read_object(kConfig);
  if (!config) fail_without_config(folder);
  const Json type = config->value("model_type", Json());
  // Of both, the text model is what a folder is opened for.
  if (type.is_string())
    info.architecture = type == "gemma3_text" ? "gemma3" : type.get<std::string>();
  info.architecture = printable_value(info.architecture);
  const auto add = [&](const auto& self, const std::string& prefix, const Json& object) -> void {
    for (const auto& [name, value] : object.items()) {
      if (value.is_object()) {
        self(self, prefix + name + ".", value);
      } else {
        info.metadata.emplace_back(printable_value(prefix + name), text_of(value));
      }
    }
  };
  add(add, "", *config);
  return info;
}

}  // namespace lapidary
