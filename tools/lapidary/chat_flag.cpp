#include "chat_flag.h"

#include <algorithm>
#include <iterator>

#include "model_flags.h"
#include "terminal.h"

namespace cli {

void add_chat_flag(CLI::App& app, ChatFlag& flag) {
  flag.option =
      add_flag(app, "--chat,!--no-chat", flag.value,
               "treat the prompt as one user turn (default for files with a chat template)");
  add_template_flag(app, flag);
}

bool ChatFlag::chosen(const lapidary::Model& model) const {
  if (option.given()) return value;
  return name.empty() ? model.info().instruction_tuned : name != "none";
}

lapidary::ChatTemplate ChatFlag::kind(const lapidary::Model& model) const {
  if (name == "gemma") return lapidary::ChatTemplate::kGemma;
  if (name == "chatml") return lapidary::ChatTemplate::kChatML;
  return name == "none" ? lapidary::ChatTemplate::kNone : model.info().turns();
}

const char* const kUnknownTemplate =
    "the file's chat template is none that is known here; Gemma's is used instead (--template "
    "chooses)";

void ChatFlag::tell(const lapidary::Model& model, bool quiet) const {
  if (name.empty() && model.info().chat_template == lapidary::ChatTemplate::kOther)
    warn(quiet, kUnknownTemplate);
}

const char* template_name(lapidary::ChatTemplate kind) {
  if (kind == lapidary::ChatTemplate::kNone) return "none";
  return kind == lapidary::ChatTemplate::kChatML ? "chatml" : "gemma";
}

void ChatFlag::take(lapidary::ChatTemplate kind, const std::string& path) {
  const std::string taken = template_name(kind);
  if (!name.empty() && name != taken) {
    throw lapidary::Error(lapidary::ErrorCode::kUsage, one_line(path) +
                                                           " is a conversation in the template " +
                                                           taken + ", but --template says " + name);
  }
  name = taken;
}

void ChatFlag::stop_at_turns(const lapidary::Model& model, std::vector<std::string>& stop) const {
  std::ranges::move(lapidary::turn_stops(model.tokenizer(), kind(model)), std::back_inserter(stop));
}

void add_template_flag(CLI::App& app, ChatFlag& flag) {
  add_option(app, "--template", flag.name,
             "how turns are written; none: as plain text (default: as the file says)")
      .one_of({"gemma", "chatml", "none"});
}

}  // namespace cli
