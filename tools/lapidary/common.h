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

/// `--template`: how turns are written; not given: as the model's file says.
struct TemplateFlag {
  std::string name;

  /// Warns, unless `quiet`, where the file's own template is one that is not known.
  lapidary::ChatTemplate chosen(const lapidary::Model& model, bool quiet) const;
};
void add_template_flag(CLI::App& app, TemplateFlag& flag);

/// `--chat`, `--no-chat` and `--template`; none given: what the model was made for.
struct ChatFlag {
  bool value = false;
  Option option;
  TemplateFlag turns;
  bool chosen(const lapidary::Model& model) const;
};
void add_chat_flag(CLI::App& app, ChatFlag& flag);

/// `options` with the texts that end a turn.
lapidary::GenerateOptions with_turn_stops(lapidary::GenerateOptions options,
                                          const lapidary::Model& model,
                                          lapidary::ChatTemplate turns);

/// `$LAPIDARY_HOME`, or lapidary/ in the XDG data folder.
std::string model_folder();

/// The model called `given`: a path, or the name of a file in the model folder, with or without its
/// .gguf; empty: the only model there. Throws Error(kUsage), or Error(kFile) for a name that is
/// nowhere, saying what there is.
std::string find_model(const std::string& given);

/// Loads with, on a terminal, a progress bar, and says what a user should know of the files.
/// Interrupts end the process meanwhile. What the flags do not say is taken from `options`.
lapidary::Model load_model(const ModelFlags& flags, lapidary::ModelOptions options = {});

/// "warning: …" on standard error, unless `quiet`.
void warn(bool quiet, const std::string& text);

/// A whole file, or standard input for "-". Throws Error(kFile).
std::string read_text_file(const std::string& path);
std::string read_standard_input();

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
