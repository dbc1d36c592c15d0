#pragma once

#include <string>
#include <vector>

#include "lapidary/lapidary.h"
#include "options.h"

namespace cli {

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
  /// Makes the template that of a conversation in `path`. Throws Error(kUsage) where another one
  /// was chosen.
  void take(lapidary::ChatTemplate kind, const std::string& path);
  /// Adds what ends a turn to `stop`, where that may come as text.
  void stop_at_turns(const lapidary::Model& model, std::vector<std::string>& stop) const;
};
/// What --template calls it.
const char* template_name(lapidary::ChatTemplate kind);

/// What tell() says.
extern const char* const kUnknownTemplate;

/// `--template` alone.
void add_template_flag(CLI::App& app, ChatFlag& flag);
void add_chat_flag(CLI::App& app, ChatFlag& flag);

}  // namespace cli
