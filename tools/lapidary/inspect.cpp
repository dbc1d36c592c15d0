#include <algorithm>
#include <memory>
#include <optional>

#include "chat_flag.h"
#include "commands.h"
#include "json.h"
#include "memory_chart.h"
#include "model_flags.h"
#include "model_folder.h"
#include "options.h"
#include "terminal.h"
#include "text.h"

namespace cli {

namespace {

struct Options {
  std::string model;
  std::string file;
  int context = 0;
  std::string kv = "bf16";
  std::string weights;
  int threads = 0;
  bool metadata = false;
  bool tensors = false;
  bool json = false;
};

// What there is to tell of a model file.
struct Facts {
  std::string path;
  lapidary::ModelInfo info;
  lapidary::FileInfo file;
  lapidary::Tokenizer tokenizer;
  lapidary::MemoryPlan memory;
  std::optional<lapidary::MemoryPlan> with_pictures;  // Where there is a vision file.
  std::string vision;                                 // The file beside it.
  int context = 0;
  lapidary::KvType kv = lapidary::KvType::kBf16;
  bool chart = false;  // A context was asked for: show what others would take.
};

struct NamedToken {
  const char* name;
  lapidary::TokenId id;
};
std::vector<NamedToken> special_tokens(const lapidary::Tokenizer& tokenizer) {
  return {{"bos", tokenizer.bos()},
          {"eos", tokenizer.eos()},
          {"start_of_turn", tokenizer.start_of_turn()},
          {"end_of_turn", tokenizer.end_of_turn()},
          {"start_of_image", tokenizer.start_of_image()},
          {"end_of_image", tokenizer.end_of_image()},
          {"image", tokenizer.image_token()}};
}

const char* template_name(lapidary::ChatTemplate kind) {
  switch (kind) {
    case lapidary::ChatTemplate::kNone:
      return "none";
    case lapidary::ChatTemplate::kGemma:
      return "gemma";
    case lapidary::ChatTemplate::kChatML:
      return "chatml";
    case lapidary::ChatTemplate::kOther:
      return "unknown";
  }
  return "unknown";
}

std::vector<std::string> warnings(const Facts& facts) {
  std::vector<std::string> all = facts.info.warnings;
  if (facts.info.chat_template == lapidary::ChatTemplate::kOther) all.push_back(kUnknownTemplate);
  std::ranges::copy(facts.tokenizer.warnings(), std::back_inserter(all));
  if (facts.context > facts.info.trained_context) {
    all.push_back(
        format("a context of %d tokens is more than the %d that the model was trained for",
               facts.context, facts.info.trained_context));
  }
  return all;
}

void add_contents(Json& object, const lapidary::FileInfo& file, const Options& options) {
  if (options.metadata) {
    object["metadata"] = Json::object();
    for (const auto& [key, value] : file.metadata) object["metadata"][key] = value;
  }
  if (!options.tensors) return;
  object["tensors"] = Json::array();
  for (const auto& tensor : file.tensors) {
    object["tensors"].push_back({{"name", tensor.name},
                                 {"type", tensor.type},
                                 {"shape", tensor.shape},
                                 {"offset", tensor.offset},
                                 {"bytes", tensor.bytes}});
  }
}

Json describe(const Facts& facts, const Options& options) {
  const lapidary::ModelInfo& info = facts.info;
  Json object;
  object["file"] = facts.path;
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
  object["chat_template"] = template_name(info.chat_template);
  object["vision_file"] = facts.vision.empty() ? Json(nullptr) : Json(facts.vision);
  for (const NamedToken& token : special_tokens(facts.tokenizer))
    object["tokens"][token.name] = token.id < 0 ? Json(nullptr) : Json(token.id);
  object["tokens"]["stop"] = facts.tokenizer.stop_ids();
  object["file_bytes"] = info.file_bytes;
  object["weight_bytes"] = info.weight_bytes;
  object["bytes_per_token"] = info.bytes_per_token;
  object["context"] = facts.context;
  object["kv_bytes"] = facts.memory.kv;
  object["kv_bytes_global_only"] = info.kv_bytes(facts.context, true, facts.kv);
  object["memory_by_context"] = memory_by_context(info, facts.kv, facts.context);
  object["vocabulary_bytes"] = facts.memory.vocabulary;
  object["buffer_bytes"] = facts.memory.buffers;
  object["process_bytes"] = facts.memory.process;
  object["memory_bytes"] = facts.memory.total();
  object["memory_bytes_with_pictures"] =
      facts.with_pictures ? Json(facts.with_pictures->total()) : Json(nullptr);
  object["types"] = Json::array();
  for (const auto& type : info.types) {
    object["types"].push_back(
        {{"type", type.type}, {"tensors", type.tensors}, {"bytes", type.bytes}});
  }
  object["warnings"] = warnings(facts);
  add_contents(object, facts.file, options);
  return object;
}

// "NAME               VALUE" a line.
class Table {
 public:
  void row(const std::string& name, const std::string& value) {
    text_ += format("%-18s %s\n", name.c_str(), one_line(value).c_str());
  }
  void line(const std::string& text) { text_ += text + "\n"; }

  void contents(const lapidary::FileInfo& file, const Options& options) {
    if (options.metadata) {
      line("\nMetadata:");
      for (const auto& [key, value] : file.metadata)
        line(one_line(format("  %s = %s", key.c_str(), value.c_str())));
    }
    if (!options.tensors) return;
    line("\nTensors:");
    for (const auto& tensor : file.tensors) {
      std::string shape;
      for (const std::uint64_t side : tensor.shape) {
        if (!shape.empty()) shape += " x ";
        shape += std::to_string(side);
      }
      line(format("  %-34s %-6s %-16s %12s at %llu", one_line(tensor.name).c_str(),
                  tensor.type.c_str(), shape.c_str(), human_bytes(tensor.bytes).c_str(),
                  static_cast<unsigned long long>(tensor.offset)));
    }
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

void add_memory(Table& table, const Facts& facts) {
  const lapidary::MemoryPlan& plan = facts.memory;
  table.line(format("\nIn memory at %d tokens of context:", facts.context));
  table.row("  weights", human_bytes(plan.weights));
  table.row("  vocabulary", human_bytes(plan.vocabulary));
  table.row("  KV cache", human_bytes(plan.kv) + " (all layers global: " +
                              human_bytes(facts.info.kv_bytes(facts.context, true, facts.kv)) +
                              ")");
  table.row("  buffers", human_bytes(plan.buffers));
  table.row("  program", human_bytes(plan.process));
  table.row("  together", human_bytes(plan.total()));
  if (facts.with_pictures) table.row("  with pictures", human_bytes(facts.with_pictures->total()));
  if (!facts.chart) return;
  table.line("\nAs the context grows:");
  table.line(memory_chart(facts.info, facts.kv, facts.context));
}

std::string table_of(const Facts& facts, const Options& options) {
  const lapidary::ModelInfo& info = facts.info;
  Table table;
  table.row("file", facts.path + ", " + human_bytes(info.file_bytes));
  table.row("name", info.name.empty() ? "(none)" : info.name);
  table.row("architecture",
            info.architecture + (info.instruction_tuned ? ", instruction-tuned" : ", base model"));
  table.row("chat template", template_name(info.chat_template));
  table.row("vision file", facts.vision.empty() ? "(none beside it)" : facts.vision);
  table.row("parameters", format("%.1f M", static_cast<double>(info.parameters) / 1e6));
  table.row("layers",
            format("%d (%d global, %d with a window of %d tokens)", info.layers, info.global_layers,
                   info.layers - info.global_layers, info.sliding_window));
  table.row("width", format("%d, feed-forward %d", info.width, info.feed_forward));
  table.row("heads", format("%d query, %d key/value, %d wide", info.query_heads, info.kv_heads,
                            info.head_dim));
  table.row("trained context", std::to_string(info.trained_context));
  std::string tokens;
  for (const NamedToken& token : special_tokens(facts.tokenizer)) {
    if (token.id >= 0)
      tokens += (tokens.empty() ? "" : ", ") + std::string(token.name) + format(" %d", token.id);
  }
  table.row("vocabulary", std::to_string(info.vocabulary) + "; " + tokens);
  std::string types;
  for (const auto& type : info.types) {
    types += (types.empty() ? "" : ", ") + format("%s ×%d (%s)", type.type.c_str(), type.tensors,
                                                  human_bytes(type.bytes).c_str());
  }
  table.row("tensors", types);
  for (const std::string& warning : warnings(facts)) table.row("warning", warning);
  add_memory(table, facts);
  table.contents(facts.file, options);
  return table.text();
}

int inspect_vision_file(const Options& options, const std::string& path,
                        const lapidary::FileInfo& file) {
  const lapidary::VisionInfo info = lapidary::inspect_vision(path);
  Output output;
  if (options.json) {
    Json object = {{"file", path},
                   {"architecture", file.architecture},
                   {"parameters", info.parameters},
                   {"layers", info.layers},
                   {"width", info.width},
                   {"feed_forward", info.feed_forward},
                   {"heads", info.heads},
                   {"image_size", info.image_size},
                   {"patch_size", info.patch_size},
                   {"image_tokens", info.tokens},
                   {"text_width", info.text_width},
                   {"file_bytes", info.file_bytes},
                   {"weight_bytes", info.weight_bytes}};
    add_contents(object, file, options);
    output.write(to_line(object) + "\n");
  } else {
    Table table;
    table.row("file", path + ", " + human_bytes(info.file_bytes));
    table.row("architecture", file.architecture + ", the vision part of a model of width " +
                                  std::to_string(info.text_width));
    table.row("parameters", format("%.1f M", static_cast<double>(info.parameters) / 1e6));
    table.row("layers", std::to_string(info.layers));
    table.row("width",
              format("%d, feed-forward %d, %d heads", info.width, info.feed_forward, info.heads));
    table.row("pictures", format("%d x %d pixels in patches of %d, %d tokens each", info.image_size,
                                 info.image_size, info.patch_size, info.tokens));
    table.row("in memory", human_bytes(info.weight_bytes));
    table.contents(file, options);
    output.write(table.text());
  }
  output.check();
  return 0;
}

// None without a vision file, or where that is bad: other commands say so when it is needed.
std::optional<lapidary::MemoryPlan> plan_with_pictures(const std::string& path,
                                                       const std::string& vision,
                                                       const std::string& weights,
                                                       const lapidary::SessionOptions& session) {
  if (vision.empty()) return {};
  try {
    return lapidary::plan_memory(path, {.vision = vision, .weights = weights}, session);
  } catch (const lapidary::Error&) {
    return {};
  }
}

int inspect(const Options& options) {
  const std::string path = find_model(options.file.empty() ? options.model : options.file);
  lapidary::FileInfo file = lapidary::inspect_file(path);
  if (file.architecture == "clip") return inspect_vision_file(options, path, file);
  lapidary::ModelInfo info = lapidary::inspect(path);
  const int context = options.context > 0 ? options.context : std::min(info.trained_context, 32768);
  lapidary::SessionOptions session;
  session.snapshot_memory = 0;  // As for what never goes back.
  session.context = context;
  session.threads = options.threads;
  session.kv = kv_type(options.kv);
  const std::string vision = lapidary::find_vision_file(path);
  const Facts facts{path,
                    std::move(info),
                    std::move(file),
                    lapidary::load_tokenizer(path),
                    lapidary::plan_memory(path, {.weights = options.weights}, session),
                    plan_with_pictures(path, vision, options.weights, session),
                    vision,
                    context,
                    session.kv,
                    options.context > 0};
  Output output;
  output.write(options.json ? to_line(describe(facts, options)) + "\n" : table_of(facts, options));
  output.check();
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, Run& run) {
  CLI::App& command = add_command(app, "inspect", "sizes, types and memory of a model file");
  const auto options = std::make_shared<Options>();
  add_positional(command, "file", options->file,
                 "model or vision file (GGUF), folder, or a model's name")
      .show_type("MODEL");
  add_option(command, "-m,--model", options->model, "the same as an option").show_type("MODEL");
  add_option(
      command, "-c,--context", options->context,
      "tokens of context to count the memory for, and a chart of more and fewer; 0: as other "
      "commands take, no chart")
      .range(0, 1 << 28);
  add_kv_flag(command, options->kv);
  add_weights_flag(command, options->weights);
  add_option(command, "-t,--threads", options->threads,
             "threads to count the memory for; 0: as other commands take")
      .range(0, 1024);
  add_flag(command, "--metadata", options->metadata, "every key of the file, long values cut");
  add_flag(command, "--tensors", options->tensors, "every tensor: type, shape, size, place");
  add_flag(command, "--json", options->json, "print one JSON object");
  when_chosen(command, run, [options] { return inspect(*options); });
}

}  // namespace cli
