#include "chat_loop.h"

#include <unistd.h>

#include <algorithm>

#include "chat_input.h"
#include "commands.h"
#include "lapidary/utf8.h"
#include "text.h"

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;
using lapidary::FinishReason;

void note(const std::string& text) { write_all(STDERR_FILENO, printable(text) + "\n"); }

Chat::Chat(const ChatOptions& options, const lapidary::Model& model, std::vector<Picture> pictures)
    : options_(options),
      template_(options.chat),
      sampling_(options.sampling),
      talk_(lapidary::Session(model, options.speculation.session(options.model, model)),
            options.system, options.chat.kind(model)),
      editor_([](const std::string& line) { return complete_line(line, command_names()); }),
      waiting_(model, options.model, options.images, talk_.session().memory_bytes(),
               options.speculation.draft_bytes(options.model)),
      random_seed_(SamplingFlags{}.seed_or_random()) {
  prefix_warning_.tell(options.model.quiet, talk_.session().prefix_cache());
  for (Picture& picture : pictures) note(waiting_.add(std::move(picture)));
  const std::string& path = options.session.path;
  if (path.empty()) return;
  file_.emplace(path);
  if (!file_->there() && !options.session.read_only) return;
  load_session(path);
  if (options.system_option.given() && options.system != talk_.system()) {
    talk_.set_system(options.system);
    changed_ = true;
  }
}

int Chat::run() {
  hold_interrupts(Interrupts::kStopOnly);
  int code = 0;
  try {
    code = converse();
  } catch (...) {
    try {
      keep();
    } catch (const Error& error) {
      complain(error.what());
    }
    throw;
  }
  keep();
  return code;
}

int Chat::converse() {
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

void Chat::handle(const std::string& text) {
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
void Chat::fail(const Error& error) const {
  std::string text = error.what();
  if (error.code() == ErrorCode::kContext) text += "; " + ways_to_room();
  if (!editor_.terminal()) throw Error(error.code(), text);
  complain(text);
}

std::string Chat::ways_to_room() const {
  std::string text = talk_.empty() ? "" : "/undo takes the last turn back, /clear begins anew";
  const int trained = talk_.session().model().info().trained_context;
  if (trained <= talk_.session().context())
    return text.empty() ? "that is all that the model was trained for" : text;
  return text + (text.empty() ? "" : ", and ") + format("-c takes up to %d tokens", trained);
}

// A picture's name and nothing else: what a terminal pastes when a file is dragged into it.
bool Chat::attach_pasted(const std::string& message) {
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
void Chat::fail_or_stop(const Error& error, const std::string& while_doing) {
  if (error.code() != ErrorCode::kInterrupted || !editor_.terminal()) return fail(error);
  interrupted = false;
  note("stopped while " + while_doing);
}

// The text behind the pictures that wait. True when there is a reply.
bool Chat::send(const std::string& text) {
  UserMessage message{text, waiting_.pictures()};
  interrupted = false;
  std::optional<int> drop;
  try {
    drop = make_room(message);
    if (!drop) return false;
    if (!message.pictures.empty()) {
      const NoEcho quiet;
      talk_.check_room(message, *drop);
      waiting_.encode();
    }
  } catch (const Error& error) {
    fail_or_stop(error, message.pictures.empty()
                            ? "reading the message, which is taken back"
                            : "encoding the pictures; the message is taken back");
    return false;
  }
  message.pictures = waiting_.pictures();
  return say(message, *drop);
}

// One that was said before, whose pictures are encoded.
bool Chat::say(const UserMessage& message) {
  interrupted = false;
  std::optional<int> drop;
  try {
    drop = make_room(message);
  } catch (const Error& error) {
    fail_or_stop(error, "reading the message, which is taken back");
  }
  return drop && say(message, *drop);
}

Reply Chat::watched(const Draw& draw) {
  const NoEcho quiet;
  ProgressBar bar("reading", options_.model.quiet);
  const auto write = [&](std::string_view piece) {
    bar.finish();
    return output_.write(piece);
  };
  interrupted = false;
  return draw(write, bar.callback());
}

// True when there is a reply, even one that was stopped.
bool Chat::say(const UserMessage& message, int drop) {
  lapidary::GenerateOptions options = sampling_.options(seed() + tries_);
  template_.stop_at_turns(talk_.session().model(), options.stop);
  options_.speculation.apply(options);
  try {
    last_ = watched([&](const lapidary::OnText& write, const lapidary::Progress& progress) {
      return talk_.say(message, options, write, progress, drop);
    });
  } catch (const Error& error) {
    fail_or_stop(error, "reading the message, which is taken back");
    output_.end_line();
    output_.check();
    return false;
  }
  changed_ = true;
  go_on(options);
  output_.end_line();
  output_.check();
  const bool stopped = last_->completion.finish_reason == FinishReason::kCancelled;
  if (stopped && !editor_.terminal()) throw Error(ErrorCode::kInterrupted, "interrupted");
  interrupted = false;
  prefix_warning_.tell(options_.model.quiet, talk_.session().prefix_cache());
  if (!options_.model.quiet) note("[" + statistics() + "]");
  explain_length();
  try {
    keep();
  } catch (const Error& error) {
    if (!editor_.terminal())
      file_.reset();  // A script ends with this, and tries it no second time.
    fail(error);
  }
  return true;
}

// A reply that was cut off looks like any other.
void Chat::explain_length() const {
  if (last_->completion.finish_reason != FinishReason::kLength) return;
  if (context_is_full()) return complain("the context is full: " + ways_to_room());
  if (editor_.terminal()) note("the reply was cut off by max-tokens (/set max-tokens)");
}

// The one of /set or --seed, else one that this chat drew when it began.
std::uint64_t Chat::seed() const { return sampling_.seed.value_or(random_seed_); }

std::string Chat::statistics() const {
  const Reply& reply = *last_;
  const auto drawn = static_cast<double>(reply.completion.ids.size());
  const std::string guesses = describe_guesses(reply.completion.usage);
  constexpr int kWorthSaying = 32;
  const std::string again =
      reply.again >= kWorthSaying ? format(" (%d of them again)", reply.again) : "";
  return format("read %s%s at %.1f t/s, drew %.0f at %.1f t/s, %s, %d of %d tokens used%s",
                counted(static_cast<std::size_t>(reply.read), "token").c_str(), again.c_str(),
                rate(reply.read, reply.prefill_seconds), drawn, rate(drawn, reply.decode_seconds),
                finish_name(reply.completion.finish_reason), talk_.tokens(),
                talk_.session().context(), guesses.empty() ? "" : (", " + guesses).c_str());
}

}  // namespace cli
