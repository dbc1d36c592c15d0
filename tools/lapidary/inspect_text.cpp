#include "inspect_text.h"

#include <algorithm>
#include <utility>

namespace cli {

namespace {

using lapidary::ChatTemplate;
using lapidary::FileInfo;

std::string type_of(const FileInfo::Entry& entry) {
  return entry.is_array ? entry.type + "[" + std::to_string(entry.count) + "]" : entry.type;
}

// A string as JSON, which has no line ends; a number as it is.
std::string value_of(const FileInfo::Entry& entry) {
  std::string text;
  for (const std::string& value : entry.values) {
    text += text.empty() ? "" : ", ";
    text += entry.type == "string" ? quoted(Json(value)) : value;
  }
  if (entry.values.size() < entry.count) text += ", …";
  return one_line(shortened(text));
}

Json json_of(const FileInfo::Entry& entry, const std::string& value) {
  if (entry.type == "string") return value;
  Json number = Json::parse(value, nullptr, false);
  return number.is_discarded() ? Json(value) : number;  // JSON has no infinity.
}

std::string shape_of(const FileInfo::Tensor& tensor) {
  std::string text;
  for (const std::uint64_t size : tensor.shape)
    text += (text.empty() ? "" : "x") + std::to_string(size);
  return text;
}

std::string row(const std::string& name, const std::string& value) {
  return format("%-18s %s\n", name.c_str(), value.c_str());
}

std::string list_tokens(const std::vector<lapidary::ModelInfo::SpecialToken>& tokens) {
  std::string text;
  for (const auto& token : tokens) {
    text += text.empty() ? "" : ", ";
    text += one_line(shortened(token.name, 40)) + " " + std::to_string(token.id);
    if (token.stops) text += " (stops)";
  }
  return text.empty() ? "(none)" : text;
}

// For programs, and for people.
std::pair<const char*, const char*> name_template(ChatTemplate chat_template) {
  switch (chat_template) {
    case ChatTemplate::kNone:
      return {"none", "(none)"};
    case ChatTemplate::kGemma:
      return {"gemma", "Gemma's own"};
    case ChatTemplate::kChatML:
      return {"chatml", "ChatML"};
    case ChatTemplate::kOther:
      break;
  }
  return {"other", "neither Gemma's nor ChatML; turns are written as Gemma's (--template chooses)"};
}

std::string list_vision_files(const std::vector<std::string>& files) {
  if (files.empty()) return "(none beside it)";
  std::string text;
  for (const std::string& file : files) text += (text.empty() ? "" : ", ") + one_line(file);
  return files.size() == 1 ? text : text + " (several: --mmproj chooses)";
}

}  // namespace

std::string extra_lines(const lapidary::ModelInfo& info,
                        const std::vector<std::string>& vision_files) {
  std::string text = row("chat template", name_template(info.chat_template).second);
  text += row("special tokens", list_tokens(info.special_tokens));
  for (const std::string& repair : info.repairs) text += row("repaired", one_line(repair));
  for (const std::string& warning : info.warnings) text += row("warning", one_line(warning));
  return text + row("vision file", list_vision_files(vision_files));
}

void add_extra(Json& object, const lapidary::ModelInfo& info,
               const std::vector<std::string>& vision_files) {
  object["chat_template"] = name_template(info.chat_template).first;
  object["special_tokens"] = Json::array();
  for (const auto& token : info.special_tokens) {
    object["special_tokens"].push_back(
        {{"name", token.name}, {"id", token.id}, {"stops", token.stops}});
  }
  object["repairs"] = info.repairs;
  object["warnings"] = info.warnings;
  object["vision_files"] = vision_files;
}

std::string vision_lines(const lapidary::VisionInfo& info) {
  std::string text = row("file", one_line(info.path) + ", " + human_bytes(info.file_bytes));
  text += row("kind", "the vision half of a model, for --mmproj");
  text += row("parameters", format("%.1f M", static_cast<double>(info.parameters) / 1e6));
  text += row("layers", std::to_string(info.layers));
  text += row("width", format("%d, feed-forward %d", info.width, info.feed_forward));
  text += row("heads", std::to_string(info.heads));
  text += row("picture", format("%d x %d pixels in patches of %d, %d tokens a view",
                                info.image_size, info.image_size, info.patch_size, info.tokens));
  text += row("for models", format("of width %d", info.text_width));
  for (const std::string& warning : info.warnings) text += row("warning", one_line(warning));
  return text + "\nIn memory:\n" + row("  weights", human_bytes(info.weight_bytes));
}

Json describe_vision(const lapidary::VisionInfo& info) {
  Json object;
  object["file"] = info.path;
  object["kind"] = "vision";
  object["parameters"] = info.parameters;
  object["layers"] = info.layers;
  object["width"] = info.width;
  object["feed_forward"] = info.feed_forward;
  object["heads"] = info.heads;
  object["image_size"] = info.image_size;
  object["patch_size"] = info.patch_size;
  object["tokens"] = info.tokens;
  object["text_width"] = info.text_width;
  object["file_bytes"] = info.file_bytes;
  object["weight_bytes"] = info.weight_bytes;
  object["warnings"] = info.warnings;
  return object;
}

std::string metadata_lines(const FileInfo& file) {
  std::string text = "\nMetadata (" + file.format + "):\n";
  std::size_t keys = 0;
  std::size_t types = 0;
  for (const FileInfo::Entry& entry : file.metadata) {
    keys = std::max(keys, std::min<std::size_t>(entry.key.size(), 50));
    types = std::max(types, type_of(entry).size());
  }
  for (const FileInfo::Entry& entry : file.metadata) {
    text +=
        format("  %-*s  %-*s  %s\n", static_cast<int>(keys), one_line(shortened(entry.key)).c_str(),
               static_cast<int>(types), type_of(entry).c_str(), value_of(entry).c_str());
  }
  return text;
}

Json describe_metadata(const FileInfo& file) {
  Json object = Json::object();
  for (const FileInfo::Entry& entry : file.metadata) {
    if (!entry.is_array) {
      object[entry.key] = json_of(entry, entry.values.front());
      continue;
    }
    Json first = Json::array();
    for (const std::string& value : entry.values) first.push_back(json_of(entry, value));
    object[entry.key] = {{"type", entry.type}, {"count", entry.count}, {"first", first}};
  }
  return object;
}

std::string tensor_lines(const FileInfo& file) {
  std::string text = "\nTensors (name, type, shape, size, offset in bytes):\n";
  std::size_t names = 0;
  for (const FileInfo::Tensor& tensor : file.tensors)
    names = std::max(names, std::min<std::size_t>(tensor.name.size(), 50));
  for (const FileInfo::Tensor& tensor : file.tensors) {
    text += format("  %-*s  %-4s  %-12s  %10s  %llu\n", static_cast<int>(names),
                   one_line(shortened(tensor.name)).c_str(), tensor.type.c_str(),
                   shape_of(tensor).c_str(), human_bytes(tensor.bytes).c_str(),
                   static_cast<unsigned long long>(tensor.offset));
  }
  return text;
}

Json describe_tensors(const FileInfo& file) {
  Json list = Json::array();
  for (const FileInfo::Tensor& tensor : file.tensors) {
    list.push_back({{"name", tensor.name},
                    {"type", tensor.type},
                    {"shape", tensor.shape},
                    {"bytes", tensor.bytes},
                    {"offset", tensor.offset}});
  }
  return list;
}

}  // namespace cli
