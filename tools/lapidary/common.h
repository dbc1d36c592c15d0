#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "json.h"
#include "lapidary/lapidary.h"
#include "terminal.h"

namespace cli {

/// What the chosen subcommand does once all options are read; returns the exit code.
using Run = std::function<int()>;

/// The environment twin of an option: "-k,--top-k" → "LAPIDARY_TOP_K".
std::string environment_name(const std::string& names);

/// An option with its environment twin and, in the help, its default.
template <class T>
CLI::Option* add_option(CLI::App& app, const std::string& names, T& value,
                        const std::string& help) {
  CLI::Option* option = app.add_option(names, value, help)->envname(environment_name(names));
  if constexpr (std::is_arithmetic_v<T>) option->capture_default_str();
  // Given twice, as by an alias and a user, the last one counts; lists take all.
  if constexpr (!std::is_same_v<T, std::vector<std::string>>) {
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }
  return option;
}
CLI::Option* add_flag(CLI::App& app, const std::string& names, bool& value,
                      const std::string& help);

/// A number in [low, high]; unlike CLI::Range it refuses NaN.
CLI::Validator in_range(double low, double high);

/// Turns a size such as 512M or 1.5G (powers of 1024) into bytes.
CLI::Validator byte_size();

/// Which model, and how it runs.
struct ModelFlags {
  std::string model;
  int threads = 0;
  int context = 0;
  int chunk = 512;
  std::string isa;
  std::uint64_t memory_limit = 0;
  bool quiet = false;

  lapidary::SessionOptions session() const;
};
void add_model_flags(CLI::App& app, ModelFlags& flags);

/// As add_model_flags, for commands that make no session.
void add_file_flags(CLI::App& app, ModelFlags& flags);

/// `--chat` and `--no-chat`; neither given: what the model was made for.
struct ChatFlag {
  bool value = false;
  CLI::Option* option = nullptr;
  bool chosen(const lapidary::Model& model) const;
};
void add_chat_flag(CLI::App& app, ChatFlag& flag);

/// `$LAPIDARY_HOME`, or lapidary/ in the XDG data folder.
std::string model_folder();

/// `given`, or the only model in the model folder. Throws Error(kUsage) where that is not one.
std::string find_model(const std::string& given);

/// Loads with, on a terminal, a progress bar and the tokenizer's warnings. Interrupts end the
/// process meanwhile. What the flags do not say is taken from `options`.
lapidary::Model load_model(const ModelFlags& flags, lapidary::ModelOptions options = {});

/// A whole file, or standard input for "-". Throws Error(kFile).
std::string read_text_file(const std::string& path);
std::string read_standard_input();

/// Throws Error(kUsage) with the offset when `text` is not valid UTF-8. `what` names it: "the
/// prompt".
void require_utf8(std::string_view text, const std::string& what);

const char* finish_name(lapidary::FinishReason reason);

/// "1.2 GB" and the like, powers of 1000.
std::string human_bytes(std::uint64_t bytes);

/// `text` without white space around it.
std::string trim(std::string_view text);

/// printf into a string.
[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...);

/// `count / seconds`, 0 when no time has passed.
double rate(double count, double seconds);

int exit_code(lapidary::ErrorCode code);

/// Registers a subcommand. It gets --config through its parent.
CLI::App& add_command(CLI::App& app, const std::string& name, const std::string& help);

void add_generate(CLI::App& app, Run& run);
void add_chat(CLI::App& app, Run& run);
void add_batch(CLI::App& app, Run& run);
void add_tokenize(CLI::App& app, Run& run);
void add_logits(CLI::App& app, Run& run);
void add_perplexity(CLI::App& app, Run& run);
void add_inspect(CLI::App& app, Run& run);
void add_bench(CLI::App& app, Run& run);
void add_encode_image(CLI::App& app, Run& run);

}  // namespace cli
