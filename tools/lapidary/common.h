#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "json.h"
#include "lapidary/lapidary.h"
#include "options.h"
#include "terminal.h"

namespace cli {

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

/// `--chat` and `--no-chat`, and the template that turns are written in; not given: what the model
/// was made for.
struct ChatFlag {
  bool value = false;
  Option option;
  std::string name;  ///< Of the template: "gemma", "chatml", "none"; empty: the file's.

  bool chosen(const lapidary::Model& model) const;
  lapidary::ChatTemplate kind(const lapidary::Model& model) const;
  /// Warns, unless `quiet`, where nobody chose and the file's own template is not known.
  void tell(const lapidary::Model& model, bool quiet) const;
  /// Adds what ends a turn to `stop`, where that may come as text.
  void stop_at_turns(const lapidary::Model& model, std::vector<std::string>& stop) const;
};
/// What tell() says.
extern const char* const kUnknownTemplate;

/// `--template` alone.
void add_template_flag(CLI::App& app, ChatFlag& flag);
void add_chat_flag(CLI::App& app, ChatFlag& flag);

/// `$LAPIDARY_HOME`, or lapidary/ in the XDG data folder.
std::string model_folder();

/// The names that find_model() takes for the models in the model folder, a line each.
std::string model_names();

/// The model called `given`: a path, or the name of a file in the model folder, with or without its
/// .gguf; empty: the only model there. Throws Error(kUsage), or Error(kFile) for a name that is
/// nowhere, saying what there is.
std::string find_model(const std::string& given);

/// Throws Error(kMemory) when what `plan_memory` counts, with a session where there will be one,
/// exceeds the limit or, without one, what the machine has; says which -c would fit. Only headers
/// are read. `beside` counts too: a draft model, pictures.
void check_memory(const ModelFlags& flags, const lapidary::ModelOptions& options, bool session,
                  std::uint64_t beside = 0);

/// Loads with, on a terminal, a progress bar. Interrupts end the process meanwhile. What the flags
/// do not say is taken from `options`.
lapidary::Model load_model(const ModelFlags& flags, lapidary::ModelOptions options = {});

/// "warning: …" on standard error, unless `quiet`.
void warn(bool quiet, const std::string& text);

/// What a prompt may have at most, and what any text may: an endless file ends there.
inline constexpr std::uint64_t kMostPromptBytes = std::uint64_t{64} << 20;
inline constexpr std::uint64_t kMostTextBytes = std::uint64_t{1} << 30;

/// A whole file, or standard input for "-", of at most `most` bytes. Throws Error(kFile).
std::string read_text_file(const std::string& path, std::uint64_t most = kMostPromptBytes);
std::string read_standard_input(std::uint64_t most = kMostPromptBytes);

/// `text` without the byte order mark that it may begin with.
std::string without_mark(std::string text);

/// What a person wrote into a file: `text` without the byte order mark at its beginning and the one
/// line end (\n or \r\n) at its end, which belong to the file.
std::string prompt_text(std::string text);

/// Throws Error(kUsage) with the offset when `text` is not valid UTF-8. `what` names it: "the
/// prompt".
void require_utf8(std::string_view text, const std::string& what);

const char* finish_name(lapidary::FinishReason reason);

/// "1.2 GiB" and the like, powers of 1024, as limits are given and as the library says it.
std::string human_bytes(std::uint64_t bytes);

/// `text` without white space around it.
std::string trim(std::string_view text);

/// "1 line", "2 lines".
std::string counted(std::size_t count, const std::string& noun);

/// printf into a string.
[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...);

/// `count / seconds`, 0 when no time has passed.
double rate(double count, double seconds);

int exit_code(lapidary::ErrorCode code);

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
