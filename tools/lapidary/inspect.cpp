#include <algorithm>
#include <memory>

#include "inspect_text.h"

namespace cli {

namespace {

struct Options {
  std::string model;
  std::string file;
  int context = 0;
  bool json = false;
  bool metadata = false;
  bool tensors = false;
};

Json describe(const lapidary::ModelInfo& info, const std::string& path, int context) {
  Json object;
  object["file"] = path;
  object["kind"] = "model";
  object["name"] = info.name;
  object["architecture"] = info.architecture;
  object["parameters"] = info.parameters;
  object["layers"] = info.layers;
  object["global_layers"] = info.global_layers;
  object["width"] = info.width;
  object["feed_forward"] = info.feed_forward;
  object["query_heads"] = info.query_heads;
  object["kv_heads"] = info.kv_heads;
  object["head_dim"] = info.head_dim;
  object["sliding_window"] = info.sliding_window;
  object["trained_context"] = info.trained_context;
  object["vocabulary"] = info.vocabulary;
  object["instruction_tuned"] = info.instruction_tuned;
  object["file_bytes"] = info.file_bytes;
  object["weight_bytes"] = info.weight_bytes;
  object["bytes_per_token"] = info.bytes_per_token;
  object["context"] = context;
  object["kv_bytes"] = info.kv_bytes(context);
  object["kv_bytes_global_only"] = info.kv_bytes(context, true);
  object["types"] = Json::array();
  for (const auto& type : info.types) {
    object["types"].push_back(
        {{"type", type.type}, {"tensors", type.tensors}, {"bytes", type.bytes}});
  }
  add_extra(object, info, lapidary::find_vision_files(path));
  return object;
}

std::string table(const lapidary::ModelInfo& info, const std::string& path, int context) {
  std::string text;
  const auto row = [&](const char* name, const std::string& value) {
    text += format("%-18s %s\n", name, value.c_str());
  };
  row("file", one_line(path) + ", " + human_bytes(info.file_bytes));
  row("name", info.name.empty() ? "(none)" : one_line(shortened(info.name)));
  row("architecture",
      info.architecture + (info.instruction_tuned ? ", instruction-tuned" : ", base model"));
  row("parameters", format("%.1f M", static_cast<double>(info.parameters) / 1e6));
  row("layers", format("%d (%d global, %d with a window of %d tokens)", info.layers,
                       info.global_layers, info.layers - info.global_layers, info.sliding_window));
  row("width", format("%d, feed-forward %d", info.width, info.feed_forward));
  row("heads",
      format("%d query, %d key/value, %d wide", info.query_heads, info.kv_heads, info.head_dim));
  row("trained context", std::to_string(info.trained_context));
  row("vocabulary", std::to_string(info.vocabulary));
  std::string types;
  for (const auto& type : info.types) {
    types += (types.empty() ? "" : ", ") + format("%s ×%d (%s)", type.type.c_str(), type.tensors,
                                                  human_bytes(type.bytes).c_str());
  }
  row("tensors", types);
  text += extra_lines(info, lapidary::find_vision_files(path));
  text += format("\nIn memory at %d tokens of context:\n", context);
  const std::uint64_t windowed = info.kv_bytes(context);
  const std::uint64_t global = info.kv_bytes(context, true);
  row("  weights", human_bytes(info.weight_bytes));
  row("  KV cache", human_bytes(windowed) + " (all layers global: " + human_bytes(global) + ")");
  row("  together", human_bytes(info.weight_bytes + windowed));
  return text;
}

int inspect(const Options& options) {
  const std::string path = find_model(options.file.empty() ? options.model : options.file);
  const lapidary::FileInfo file = lapidary::inspect_file(path);
  lapidary::ModelInfo info;
  lapidary::VisionInfo vision;
  if (file.vision) {
    vision = lapidary::inspect_vision(path);
  } else {
    info = lapidary::inspect(path);
  }
  const int context = options.context > 0 ? options.context : std::min(info.trained_context, 32768);
  Output output;
  if (options.json) {
    Json object = file.vision ? describe_vision(vision) : describe(info, path, context);
    if (options.metadata) object["metadata"] = describe_metadata(file);
    if (options.tensors) object["tensors"] = describe_tensors(file);
    output.write(to_line(object) + "\n");
  } else {
    output.write(file.vision ? vision_lines(vision) : table(info, path, context));
    if (options.metadata) output.write(metadata_lines(file));
    if (options.tensors) output.write(tensor_lines(file));
  }
  output.check();
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, Run& run) {
  CLI::App& command =
      add_command(app, "inspect", "sizes, types and memory of a model or vision file");
  const auto options = std::make_shared<Options>();
  add_positional(command, "file", options->file, "model file (GGUF)");
  add_option(command, "-m,--model", options->model, "the same as an option");
  add_option(command, "-c,--context", options->context,
             "tokens of context to count the memory for; 0: as other commands take")
      .range(0, 1 << 28);
  add_flag(command, "--metadata", options->metadata, "also every key of the file");
  add_flag(command, "--tensors", options->tensors, "also every tensor of the file");
  add_flag(command, "--json", options->json, "print one JSON object");
  when_chosen(command, run, [options] { return inspect(*options); });
}

}  // namespace cli
