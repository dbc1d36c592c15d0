#include <unistd.h>

#include <memory>
#include <optional>
#include <span>

#include "chat_pictures.h"
#include "chat_settings.h"
#include "conversation.h"
#include "line_editor.h"
#include "speculation_flags.h"

namespace cli {

namespace {

using lapidary::Error;
using lapidary::ErrorCode;

struct Options {
  ModelFlags model;
  SamplingFlags sampling;
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
        talk_(model, options.speculation.session(options.model, model), options.system),
        waiting_(model, options.model, options.images, talk_.session().memory_bytes()) {
    for (Picture& picture : pictures) note(waiting_.add(std::move(picture)));
  }

  int run() {
    hold_interrupts(Interrupts::kStopOnly);
    if (editor_.terminal()) note("/help lists commands; Ctrl-C stops a reply, Ctrl-D leaves");
    while (!leave_) {
      std::string text;
      const LineEditor::Event event = read_message(text);
      if (event == LineEditor::Event::kEnd) break;
      if (event == LineEditor::Event::kInterrupt) {
        // The one that stopped a reply, or emptied the line, was the first.
        if (stopped_ || !editor_.terminal()) return exit_code(ErrorCode::kInterrupted);
        stopped_ = true;
        note("Ctrl-C again, or Ctrl-D, leaves");
        continue;
      }
      stopped_ = false;
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

  // One message: a line, lines that end in a backslash and the one behind them, or what stands
  // between two """.
  LineEditor::Event read_message(std::string& text) {
    LineEditor::Event event = editor_.read(">>> ", text, draft_);
    draft_.clear();
    if (event != LineEditor::Event::kLine) return event;
    const auto more = [&](std::string& line) {
      event = editor_.read("... ", line);
      return event == LineEditor::Event::kLine;
    };
    std::string line;
    if (text.starts_with("\"\"\"")) {
      text.erase(0, 3);
      while (!close_quotes(text)) {
        if (!more(line)) break;
        text += '\n' + line;
      }
    } else {
      while (text.ends_with('\\')) {
        text.pop_back();
        if (!more(line)) break;
        text += '\n' + line;
      }
    }
    if (event == LineEditor::Event::kInterrupt) return event;
    editor_.remember(text);
    return LineEditor::Event::kLine;
  }

  static bool close_quotes(std::string& text) {
    const std::size_t end = text.find_last_not_of(" \t\r");
    if (end == std::string::npos || end < 2 || text.compare(end - 2, 3, "\"\"\"") != 0)
      return false;
    text.resize(end - 2);
    return true;
  }

  void handle(const std::string& text) {
    if (text.starts_with('/') && !text.starts_with("//")) return command(text);
    const std::string message = text.starts_with("//") ? text.substr(1) : text;
    if (trim(message).empty()) return;
    if (const auto at = find_invalid_utf8(message)) {
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
    if (!editor_.terminal()) throw error;
    complain(error.what());
  }

  // A Ctrl-C is no failure to a person.
  void fail_or_stop(const Error& error, const char* while_doing) {
    if (error.code() != ErrorCode::kInterrupted || !editor_.terminal()) return fail(error);
    stopped_ = true;
    interrupted = false;
    note(std::string("stopped while ") + while_doing + "; the message is taken back");
  }

  // The text behind the pictures that wait. True when there is a reply.
  bool send(const std::string& text) {
    UserMessage message{text, waiting_.pictures()};
    if (!message.pictures.empty()) {
      interrupted = false;
      try {
        talk_.check_room(message);
        waiting_.encode();
      } catch (const Error& error) {
        fail_or_stop(error, "encoding the pictures");
        return false;
      }
      message.pictures = waiting_.pictures();
    }
    return say(message);
  }

  // True when there is a reply, even one that was stopped.
  bool say(const UserMessage& message) {
    lapidary::GenerateOptions options = sampling_.options(seed() + tries_);
    options_.speculation.apply(options);
    interrupted = false;
    std::optional<Reply> reply;
    try {
      ProgressBar bar("reading", options_.model.quiet);
      reply = talk_.say(
          message, options, [this](std::string_view piece) { return output_.write(piece); },
          bar.callback());
    } catch (const Error& error) {
      fail_or_stop(error, "reading the message");
    }
    output_.end_line();
    output_.check();
    if (!reply) return false;
    if (reply->completion.finish_reason == lapidary::FinishReason::kCancelled) {
      if (!editor_.terminal()) throw Error(ErrorCode::kInterrupted, "interrupted");
      stopped_ = true;
    }
    interrupted = false;
    last_ = std::move(reply);
    if (!options_.model.quiet) note("[" + statistics() + "]");
    return true;
  }

  // The one of /set or --seed, else one that this chat drew when it began.
  std::uint64_t seed() const { return sampling_.seed.value_or(random_seed_); }

  std::string statistics() const {
    const Reply& reply = *last_;
    const auto drawn = static_cast<double>(reply.completion.ids.size());
    const std::string guesses = describe_guesses(reply.completion.usage);
    return format("read %d tokens at %.1f t/s, drew %.0f at %.1f t/s, %s, %d of %d tokens used%s",
                  reply.read, rate(reply.read, reply.prefill_seconds), drawn,
                  rate(drawn, reply.decode_seconds), finish_name(reply.completion.finish_reason),
                  talk_.tokens(), talk_.session().context(),
                  guesses.empty() ? "" : (", " + guesses).c_str());
  }

  void command(const std::string& line) {
    const std::size_t space = line.find_first_of(" \t\n");
    const std::string name = line.substr(0, space);
    const std::string argument = space == std::string::npos ? "" : trim(line.substr(space));
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

  void undo(const std::string&) {
    if (nothing_said()) return;
    talk_.undo();
    note(format("the last turn is taken back; %d remain", talk_.turns()));
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

  void read(const std::string& path) {
    if (path.empty()) return note("/read needs a file");
    try {
      const std::string text = read_text_file(path);
      require_utf8(text, path);
      attached_ += (attached_.empty() ? "" : "\n\n") + text;
      note(format("%zu bytes of %s go in front of the next message", text.size(), path.c_str()));
    } catch (const Error& error) {
      fail(error);
    }
  }

  void system(const std::string& text) {
    talk_.set_system(text);
    note(text.empty() ? "no system text" : "the system text holds from the next message on");
  }

  void image(const std::string& argument) {
    if (argument.empty()) {
      if (waiting_.empty()) return note("/image needs a file");
      waiting_.clear();
      return note("the next message goes without pictures");
    }
    try {
      for (const std::string& line : waiting_.add(split_file_names(argument))) note(line);
    } catch (const Error& error) {
      fail(error);
    }
  }

  void set(const std::string& argument) { note(change_setting(sampling_, argument)); }

  void show(const std::string&) {
    const lapidary::Model& model = talk_.session().model();
    note("model: " + (model.info().name.empty() ? options_.model.model : model.info().name) + ", " +
         model.isa() + ", " + std::to_string(talk_.session().threads()) + " threads");
    note("vision: " + (model.vision() == nullptr ? "(none)" : model.vision()->path));
    note("system: " + (talk_.system().empty() ? "(none)" : talk_.system()));
    for (const std::string& line : describe_settings(sampling_)) note(line);
    note("seed in use: " + std::to_string(seed() + tries_));
    tokens("");
  }

  void tokens(const std::string&) {
    std::string text = format("%d of %d tokens used by %d turns", talk_.tokens(),
                              talk_.session().context(), talk_.turns());
    if (talk_.image_tokens() > 0) text += format(", %d of them by pictures", talk_.image_tokens());
    note(text);
    for (const std::string& line : waiting_.describe()) note("with the next message: " + line);
    if (last_) note("last reply: " + statistics());
  }

  const Options& options_;
  SamplingFlags sampling_;
  Conversation talk_;
  LineEditor editor_;
  Output output_;
  std::string attached_;  // Files that go in front of the next message.
  WaitingPictures waiting_;
  std::string draft_;  // Text that the next prompt begins with.
  std::optional<Reply> last_;
  std::uint64_t random_seed_ = SamplingFlags{}.seed_or_random();
  std::uint64_t tries_ = 0;  // Added to the seed, so that /regen draws something else.
  bool stopped_ = false;     // The last thing that happened was a Ctrl-C.
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
      {"/read", "FILE", "put a text file in front of the next message", &Chat::read},
      {"/image", "[FILE...]", "put pictures in front of the next message, or none", &Chat::image},
      {"/system", "[TEXT]", "set the system text, or none", &Chat::system},
      {"/set", "NAME VALUE", "change a sampling setting", &Chat::set},
      {"/show", "", "the model and the settings", &Chat::show},
      {"/tokens", "", "how much of the context is used", &Chat::tokens},
  };
  return kCommands;
}

int chat(const Options& options) {
  require_utf8(options.system, "the system text");
  std::vector<Picture> pictures = read_pictures(options.images, options.model.memory_limit);
  const lapidary::Model model = load_model(options.model, options.images,
                                           pictures.empty() ? Vision::kIfThere : Vision::kNeeded);
  const lapidary::Tokenizer& tokenizer = model.tokenizer();
  if (tokenizer.start_of_turn() < 0 || tokenizer.end_of_turn() < 0) {
    throw Error(ErrorCode::kUsage,
                "this model cannot chat: its vocabulary has no <start_of_turn> and <end_of_turn>");
  }
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
  add_option(command, "--system", options->system, "text in front of the first message");
  when_chosen(command, run, [options] { return chat(*options); });
}

}  // namespace cli
