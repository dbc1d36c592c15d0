#include <unistd.h>

#include <memory>
#include <optional>
#include <span>

#include "chat_flag.h"
#include "chat_input.h"
#include "chat_pictures.h"
#include "chat_settings.h"
#include "commands.h"
#include "conversation.h"
#include "lapidary/utf8.h"
#include "line_editor.h"
#include "speculation_flags.h"
#include "terminal.h"
#include "text.h"
#include "text_file.h"

namespace cli {

namespace {

using lapidary::Error;
using lapidary::ErrorCode;

struct Options {
  ModelFlags model;
  SamplingFlags sampling;
  ChatFlag chat;
  SpeculationFlags speculation;
  ImageFlags images;
  std::string system;
};

void note(const std::string& text) { write_all(STDERR_FILENO, printable(text) + "\n"); }

class Chat {
 public:
  Chat(const Options& options, const lapidary::Model& model, std::vector<Picture> pictures)
      : options_(options),
        sampling_(options.sampling),
        talk_(model, options.speculation.session(options.model, model), options.system,
              options.chat.kind(model)),
        waiting_(model, options.model, options.images, talk_.session().memory_bytes(),
                 options.speculation.draft_bytes(options.model)) {
    for (Picture& picture : pictures) note(waiting_.add(std::move(picture)));
  }

  int run() {
    hold_interrupts(Interrupts::kStopOnly);
    if (editor_.terminal()) note("/help lists commands; Ctrl-C stops a reply, Ctrl-D leaves");
    while (!leave_) {
      std::string text;
      const LineEditor::Event event = read_message(editor_, draft_, text);
      if (event == LineEditor::Event::kEnd) break;
      if (event == LineEditor::Event::kInterrupt) {
        if (!editor_.terminal() || (asked_ && !editor_.typed()))
          return exit_code(ErrorCode::kInterrupted);
        asked_ = true;
        note("Ctrl-C again, Ctrl-D or /exit leaves");
        continue;
      }
      asked_ = false;
      if (event == LineEditor::Event::kCleared) continue;
      handle(text);
    }
    return 0;
  }

 private:
  struct Command {
    const char* name;
    const char* argument;
    const char* help;
    void (Chat::*run)(const std::string& argument);
  };
  static std::span<const Command> commands();
  static std::vector<std::string> command_names() {
    std::vector<std::string> names;
    for (const Command& command : commands()) names.emplace_back(command.name);
    return names;
  }

  void handle(const std::string& text) {
    // Before the commands: a path begins as they do.
    if (attach_pasted(trim(text))) return;
    if (text.starts_with('/') && !text.starts_with("//")) return command(text);
    const std::string message = text.starts_with("//") ? text.substr(1) : text;
    if (trim(message).empty()) return;
    if (const auto at = lapidary::find_invalid_utf8(message)) {
      return fail(Error(ErrorCode::kUsage,
                        "the message is not valid UTF-8 at offset " + std::to_string(*at)));
    }
    tries_ = 0;
    const std::string attached = attached_.empty() ? message : attached_ + "\n\n" + message;
    if (!send(attached)) {
      if (editor_.terminal()) draft_ = text;
      return;
    }
    attached_.clear();
    waiting_.clear();
  }

  // In a terminal one sees what went wrong and goes on; a script gets the exit code.
  void fail(const Error& error) const {
    std::string text = error.what();
    if (error.code() == ErrorCode::kContext) text += "; " + ways_to_room();
    if (!editor_.terminal()) throw Error(error.code(), text);
    complain(text);
  }

  std::string ways_to_room() const {
    std::string text = talk_.empty() ? "" : "/undo takes the last turn back, /clear begins anew";
    const int trained = talk_.session().model().info().trained_context;
    if (trained <= talk_.session().context())
      return text.empty() ? "that is all that the model was trained for" : text;
    return text + (text.empty() ? "" : ", and ") + format("-c takes up to %d tokens", trained);
  }

  // A picture's name and nothing else: what a terminal pastes when a file is dragged into it.
  bool attach_pasted(const std::string& message) {
    if (!editor_.terminal() || talk_.session().model().vision() == nullptr) return false;
    const std::vector<std::string> paths = pasted_pictures(message);
    if (paths.empty()) return false;
    std::string answer;
    const char* question =
        paths.size() == 1 ? "attach it as a picture? [Y/n] " : "attach them as pictures? [Y/n] ";
    if (editor_.read(question, answer) != LineEditor::Event::kLine) return true;
    if (answer.starts_with('n') || answer.starts_with('N')) return false;
    attach(paths);
    return true;
  }

  // A Ctrl-C is no failure to a person.
  void fail_or_stop(const Error& error, const std::string& while_doing) {
    if (error.code() != ErrorCode::kInterrupted || !editor_.terminal()) return fail(error);
    interrupted = false;
    note("stopped while " + while_doing);
  }

  // The text behind the pictures that wait. True when there is a reply.
  bool send(const std::string& text) {
    const NoEcho quiet;
    UserMessage message{text, waiting_.pictures()};
    if (!message.pictures.empty()) {
      interrupted = false;
      try {
        talk_.check_room(message);
        waiting_.encode();
      } catch (const Error& error) {
        fail_or_stop(error, "encoding the pictures; the message is taken back");
        return false;
      }
      message.pictures = waiting_.pictures();
    }
    return say(message);
  }

  // True when there is a reply, even one that was stopped.
  bool say(const UserMessage& message) {
    lapidary::GenerateOptions options = sampling_.options(seed() + tries_);
    options_.chat.stop_at_turns(talk_.session().model(), options.stop);
    options_.speculation.apply(options);
    interrupted = false;
    std::optional<Reply> reply;
    try {
      const NoEcho quiet;
      ProgressBar bar("reading", options_.model.quiet);
      const auto write = [&](std::string_view piece) {
        bar.finish();
        return output_.write(piece);
      };
      reply = talk_.say(message, options, write, bar.callback());
    } catch (const Error& error) {
      fail_or_stop(error, "reading the message, which is taken back");
    }
    output_.end_line();
    output_.check();
    if (!reply) return false;
    if (reply->completion.finish_reason == lapidary::FinishReason::kCancelled) {
      if (!editor_.terminal()) throw Error(ErrorCode::kInterrupted, "interrupted");
    }
    interrupted = false;
    last_ = std::move(reply);
    if (!options_.model.quiet) note("[" + statistics() + "]");
    explain_length();
    return true;
  }

  bool context_is_full() const { return talk_.tokens() >= talk_.session().context(); }

  // A reply that was cut off looks like any other.
  void explain_length() const {
    if (last_->completion.finish_reason != lapidary::FinishReason::kLength) return;
    if (!context_is_full()) {
      if (editor_.terminal()) note("the reply was cut off by max-tokens (/set max-tokens)");
      return;
    }
    if (editor_.terminal() || !options_.model.quiet)
      complain("the context is full: " + ways_to_room());
  }

  // The one of /set or --seed, else one that this chat drew when it began.
  std::uint64_t seed() const { return sampling_.seed.value_or(random_seed_); }

  std::string statistics() const {
    const Reply& reply = *last_;
    const auto drawn = static_cast<double>(reply.completion.ids.size());
    const std::string guesses = describe_guesses(reply.completion.usage);
    return format("read %s at %.1f t/s, drew %.0f at %.1f t/s, %s, %d of %d tokens used%s",
                  counted(static_cast<std::size_t>(reply.read), "token").c_str(),
                  rate(reply.read, reply.prefill_seconds), drawn, rate(drawn, reply.decode_seconds),
                  finish_name(reply.completion.finish_reason), talk_.tokens(),
                  talk_.session().context(), guesses.empty() ? "" : (", " + guesses).c_str());
  }

  void command(const std::string& line) {
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

  void help(const std::string&) {
    for (const Command& entry : commands()) {
      note(format("  %-22s %s", (std::string(entry.name) + " " + entry.argument).c_str(),
                  entry.help));
    }
    note("Several lines: between two \"\"\", or with \\ at the end of a line.");
  }

  void leave(const std::string&) { leave_ = true; }

  void clear(const std::string&) {
    talk_.clear();
    attached_.clear();
    waiting_.clear();
    last_.reset();
    note("the conversation is empty");
  }

  bool nothing_said() const {
    if (talk_.empty()) note("nothing has been said yet");
    return talk_.empty();
  }

  // What waits was put there last.
  void undo(const std::string&) {
    if (!attached_.empty()) return drop_attached();
    if (nothing_said()) return;
    talk_.undo();
    note("the last turn is taken back; " +
         counted(static_cast<std::size_t>(talk_.turns()), "turn") + " left");
  }

  // A message that begins with / must not become a command when it is sent again.
  static std::string draft_of(const std::string& text) {
    return text.starts_with('/') ? '/' + text : text;
  }

  // When it fails, the message stands in the next prompt.
  void regenerate(const std::string&) {
    if (nothing_said()) return;
    const UserMessage message = talk_.last_user();
    talk_.undo();
    ++tries_;
    if (say(message) || !editor_.terminal()) return;
    waiting_.put_back(message.pictures);
    draft_ = draft_of(message.text);
  }

  void edit(const std::string& argument) {
    if (nothing_said()) return;
    const UserMessage message = talk_.last_user();
    talk_.undo();
    waiting_.put_back(message.pictures);
    if (argument.empty() && editor_.terminal()) {
      draft_ = draft_of(message.text);  // The next prompt begins with it.
    } else if (argument.empty()) {
      note("the last turn is taken back; the next message replaces it");
    } else {
      handle(argument);
    }
  }

  void drop_attached() {
    attached_.clear();
    note("the next message goes without the files that were read");
  }

  void read(const std::string& argument) {
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
      talk_.check_room({all, waiting_.pictures()});
      attached_ = all;
      note(counted(text.size(), "byte") + " of " + path + " go in front of the next message");
    } catch (const Error& error) {
      fail_or_stop(error, "reading " + path);
    }
  }

  void system(const std::string& text) {
    if (text.empty())
      return note("system: " +
                  (talk_.system().empty() ? "(none); /system TEXT sets it" : talk_.system()));
    const bool none = text == "clear" || text == "\"\"";
    talk_.set_system(none ? "" : text);
    note(none ? "no system text" : "the system text holds from the next message on");
  }

  void image(const std::string& argument) {
    if (argument.empty()) {
      if (waiting_.empty()) return note("/image needs a file");
      waiting_.clear();
      return note("the next message goes without pictures");
    }
    std::vector<std::string> paths = split_file_names(argument);
    for (std::string& path : paths) path = expand_home(path);
    attach(paths);
  }

  void attach(const std::vector<std::string>& paths) {
    try {
      for (const std::string& line : waiting_.add(paths)) note(line);
    } catch (const Error& error) {
      fail(error);
    }
  }

  void set(const std::string& argument) { note(change_setting(sampling_, argument)); }

  void show(const std::string&) {
    const lapidary::Model& model = talk_.session().model();
    note("model: " + (model.info().name.empty() ? options_.model.model : model.info().name) + ", " +
         model.isa() + ", " +
         counted(static_cast<std::size_t>(talk_.session().threads()), "thread"));
    note("vision: " + (model.vision() == nullptr ? "(none)" : model.vision()->path));
    note("system: " + (talk_.system().empty() ? "(none)" : talk_.system()));
    for (const std::string& line : describe_settings(sampling_)) note(line);
    note("seed in use: " + std::to_string(seed() + tries_));
    tokens("");
  }

  void tokens(const std::string&) {
    std::string text =
        format("%d of %d tokens used by ", talk_.tokens(), talk_.session().context()) +
        counted(static_cast<std::size_t>(talk_.turns()), "turn");
    if (talk_.image_tokens() > 0) text += format(", %d of them by pictures", talk_.image_tokens());
    note(text);
    for (const std::string& line : waiting_.describe()) note("with the next message: " + line);
    if (!attached_.empty())
      note("with the next message: " + counted(attached_.size(), "byte") +
           " that were read (/read drops them)");
    if (last_) note("last reply: " + statistics());
  }

  const Options& options_;
  SamplingFlags sampling_;
  Conversation talk_;
  LineEditor editor_{[](const std::string& line) { return complete_line(line, command_names()); }};
  Output output_;
  std::string attached_;  // Files that go in front of the next message.
  WaitingPictures waiting_;
  std::string draft_;  // Text that the next prompt begins with.
  std::optional<Reply> last_;
  std::uint64_t random_seed_ = SamplingFlags{}.seed_or_random();
  std::uint64_t tries_ = 0;  // Added to the seed, so that /regen draws something else.
  bool asked_ = false;       // The last thing that happened was a Ctrl-C on an empty line.
  bool leave_ = false;
};

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
      {"/image", "[FILE...]", "put pictures in front of the next message, or none", &Chat::image},
      {"/system", "[TEXT]", "show or set the system text; clear removes it", &Chat::system},
      {"/set", "NAME VALUE", "change a sampling setting", &Chat::set},
      {"/show", "", "the model and the settings", &Chat::show},
      {"/tokens", "", "how much of the context is used", &Chat::tokens},
  };
  return kCommands;
}

int chat(const Options& options) {
  require_utf8(options.system, "the system text");
  std::vector<Picture> pictures = read_pictures(options.images, options.model.memory_limit);
  const lapidary::Model model = load_model(
      options.model, options.images, pictures.empty() ? Vision::kIfThere : Vision::kNeeded, {},
      true, decoded_bytes(pictures) + options.speculation.draft_bytes(options.model));
  options.chat.tell(model, options.model.quiet);
  const lapidary::Message probe{"user", {}};
  lapidary::chat_prompt(model.tokenizer(), {&probe, 1}, options.chat.kind(model));  // Can it chat?
  if (!model.info().instruction_tuned) {
    warn(options.model.quiet,
         "this is a base model without chat training; expect it to continue text rather than to "
         "answer");
  }
  return Chat(options, model, std::move(pictures)).run();
}

}  // namespace

void add_chat(CLI::App& app, Run& run) {
  CLI::App& command = add_command(app, "chat", "talk with a model");
  const auto options = std::make_shared<Options>();
  add_model_flags(command, options->model);
  add_sampling_flags(command, options->sampling);
  add_speculation_flags(command, options->speculation);
  add_image_flags(command, options->images);
  add_template_flag(command, options->chat);
  add_option(command, "--system", options->system, "text in front of the first message");
  when_chosen(command, run, [options] { return chat(*options); });
}

}  // namespace cli
