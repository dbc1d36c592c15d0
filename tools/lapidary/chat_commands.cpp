// The commands of a chat: lines that begin with /.
#include <charconv>
#include <utility>

#include "chat_input.h"
#include "chat_loop.h"
#include "chat_settings.h"
#include "json.h"
#include "text.h"
#include "text_file.h"

namespace cli {

using lapidary::Error;

namespace {

// A message that begins with / must not become a command when it is sent again.
std::string draft_of(const std::string& text) { return text.starts_with('/') ? '/' + text : text; }

// What the model was told first, in a line.
std::string first_words(const UserMessage& message) {
  constexpr std::size_t kMost = 60;
  const std::string text = shortened(one_line(message.text), kMost);
  const std::size_t pictures = message.pictures.size();
  return pictures == 0 ? text : "[" + counted(pictures, "picture") + "] " + text;
}

}  // namespace

std::span<const Chat::Command> Chat::commands() {
  static constexpr Command kCommands[] = {
      {"/help", "", "this list", &Chat::help},
      {"/exit", "", "leave (also /bye, Ctrl-D)", &Chat::leave},
      {"/bye", "", "leave", &Chat::leave},
      {"/clear", "", "begin a new conversation", &Chat::clear},
      {"/regen", "", "draw the last reply again, differently", &Chat::regenerate},
      {"/undo", "", "take the last turn back", &Chat::undo},
      {"/edit", "[TEXT]", "change the last message, pictures kept, and send it again", &Chat::edit},
      {"/read", "[FILE]", "put a text file in front of the next message, or none", &Chat::read},
      {"/rewind", "[N]", "take the last N turns back, or list the turns", &Chat::rewind},
      {"/save", "FILE", "save the conversation", &Chat::save},
      {"/load", "FILE", "go on with a saved conversation instead of this one", &Chat::load},
      {"/image", "[FILE...]", "put pictures in front of the next message, or none", &Chat::image},
      {"/system", "[TEXT]", "show or set the system text; clear removes it", &Chat::system},
      {"/set", "NAME VALUE", "change a sampling setting", &Chat::set},
      {"/show", "", "the model and the settings", &Chat::show},
      {"/tokens", "", "how much of the context is used", &Chat::tokens},
  };
  return kCommands;
}

std::vector<std::string> Chat::command_names() {
  std::vector<std::string> names;
  for (const Command& command : commands()) names.emplace_back(command.name);
  return names;
}

void Chat::command(const std::string& line) {
  const std::string words = trim(line);
  const std::size_t space = words.find_first_of(" \t\n");
  const std::string name = words.substr(0, space);
  const std::string argument = space == std::string::npos ? "" : trim(words.substr(space));
  for (const Command& entry : commands()) {
    if (name == entry.name) return (this->*entry.run)(argument);
  }
  note("unknown command " + name +
       "; /help lists them, and a message that begins with / is written //");
}

void Chat::help(const std::string&) {
  for (const Command& entry : commands()) {
    note(
        format("  %-22s %s", (std::string(entry.name) + " " + entry.argument).c_str(), entry.help));
  }
  note("Several lines: between two \"\"\", or with \\ at the end of a line.");
}

void Chat::leave(const std::string&) { leave_ = true; }

void Chat::clear(const std::string&) {
  talk_.clear();
  changed_ = true;
  attached_.clear();
  waiting_.clear();
  last_.reset();
  note("the conversation is empty");
}

bool Chat::nothing_said() const {
  if (talk_.empty()) note("nothing has been said yet");
  return talk_.empty();
}

// What waits was put there last.
void Chat::undo(const std::string&) {
  if (!attached_.empty()) return drop_attached();
  if (nothing_said()) return;
  take_back(1);
  note("the last turn is taken back; " + counted(static_cast<std::size_t>(talk_.turns()), "turn") +
       " left");
}

void Chat::take_back(int turns) {
  talk_.take_back(turns);
  last_.reset();
  changed_ = true;
}

// Numbered by what takes them back.
void Chat::list_turns() const {
  for (int i = 0; i < talk_.turns(); ++i) {
    note(format("  %3d  ", talk_.turns() - i) + first_words(talk_.user(i)) +
         (i < talk_.first_seen() ? "  (no longer seen by the model)" : ""));
  }
}

void Chat::rewind(const std::string& argument) {
  if (nothing_said()) return;
  if (argument.empty()) {
    list_turns();
    return note("/rewind N takes back a turn and all that follow it");
  }
  int count = 0;
  const char* end = argument.data() + argument.size();
  const auto [rest, error] = std::from_chars(argument.data(), end, count);
  if (error != std::errc() || rest != end || count < 1 || count > talk_.turns()) {
    return note(format("/rewind: expected a whole number from 1 to %d, found %s", talk_.turns(),
                       shortened(argument).c_str()));
  }
  const std::string from = first_words(talk_.user(talk_.turns() - count));
  take_back(count);
  note(counted(static_cast<std::size_t>(count), "turn") + " taken back, from \"" + from +
       "\" on; " + counted(static_cast<std::size_t>(talk_.turns()), "turn") + " left");
}

// When it fails, the message stands in the next prompt.
void Chat::regenerate(const std::string&) {
  if (nothing_said()) return;
  const UserMessage message = talk_.last_user();
  take_back(1);
  ++tries_;
  if (say(message) || !editor_.terminal()) return;
  waiting_.put_back(message.pictures);
  draft_ = draft_of(message.text);
}

void Chat::edit(const std::string& argument) {
  if (nothing_said()) return;
  const UserMessage message = talk_.last_user();
  take_back(1);
  waiting_.put_back(message.pictures);
  if (argument.empty() && editor_.terminal()) {
    draft_ = draft_of(message.text);  // The next prompt begins with it.
  } else if (argument.empty()) {
    note("the last turn is taken back; the next message replaces it");
  } else {
    handle(argument);
  }
}

void Chat::drop_attached() {
  attached_.clear();
  note("the next message goes without the files that were read");
}

void Chat::read(const std::string& argument) {
  if (argument.empty()) {
    if (attached_.empty()) return note("/read needs a file");
    return drop_attached();
  }
  const std::vector<std::string> names = split_file_names(argument);
  std::string path = expand_home(names.size() == 1 ? names.front() : argument);
  if (path == "-") path = "./-";  // Standard input is the conversation.
  interrupted = false;
  try {
    const std::string text = prompt_text(read_text_file(path));
    require_utf8(text, path);
    const std::string all = attached_ + (attached_.empty() ? "" : "\n\n") + text;
    const int seen = talk_.turns() - talk_.first_seen();
    talk_.check_room({all, waiting_.pictures()}, may_drop() ? seen : 0);
    attached_ = all;
    note(counted(text.size(), "byte") + " of " + path + " go in front of the next message");
  } catch (const Error& error) {
    fail_or_stop(error, "reading " + path);
  }
}

void Chat::system(const std::string& text) {
  if (text.empty())
    return note("system: " +
                (talk_.system().empty() ? "(none); /system TEXT sets it" : talk_.system()));
  const bool none = text == "clear" || text == "\"\"";
  talk_.set_system(none ? "" : text);
  changed_ = true;
  note(none ? "no system text" : "the system text holds from the next message on");
}

void Chat::image(const std::string& argument) {
  if (argument.empty()) {
    if (waiting_.empty()) return note("/image needs a file");
    waiting_.clear();
    return note("the next message goes without pictures");
  }
  std::vector<std::string> paths = split_file_names(argument);
  for (std::string& path : paths) path = expand_home(path);
  attach(paths);
}

void Chat::attach(const std::vector<std::string>& paths) {
  try {
    for (const std::string& line : waiting_.add(paths)) note(line);
  } catch (const Error& error) {
    fail(error);
  }
}

void Chat::set(const std::string& argument) { note(change_setting(sampling_, argument)); }

void Chat::show(const std::string&) {
  const lapidary::Model& model = talk_.session().model();
  note("model: " + (model.info().name.empty() ? options_.model.model : model.info().name) + ", " +
       model.isa() + ", " + counted(static_cast<std::size_t>(talk_.session().threads()), "thread"));
  note("vision: " + (model.vision() == nullptr ? "(none)" : model.vision()->path));
  note("system: " + (talk_.system().empty() ? "(none)" : talk_.system()));
  for (const std::string& line : describe_settings(sampling_)) note(line);
  note("seed in use: " + std::to_string(seed() + tries_));
  tokens("");
}

void Chat::tokens(const std::string&) {
  const int unseen = talk_.first_seen();
  std::string text = format("%d of %d tokens used by ", talk_.tokens(), talk_.session().context()) +
                     counted(static_cast<std::size_t>(talk_.turns() - unseen), "turn");
  if (unseen > 0) text += format(", %d before them no longer seen", unseen);
  if (talk_.image_tokens() > 0) text += format(", %d of them by pictures", talk_.image_tokens());
  note(text);
  for (const std::string& line : waiting_.describe()) note("with the next message: " + line);
  if (!attached_.empty())
    note("with the next message: " + counted(attached_.size(), "byte") +
         " that were read (/read drops them)");
  if (last_) note("last reply: " + statistics());
}

}  // namespace cli
