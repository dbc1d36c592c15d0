#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "chat_flag.h"
#include "chat_pictures.h"
#include "conversation.h"
#include "line_editor.h"
#include "sampling_flags.h"
#include "session_file.h"
#include "speculation_flags.h"
#include "terminal.h"

namespace cli {

struct ChatOptions {
  ModelFlags model;
  SamplingFlags sampling;
  ChatFlag chat;
  SpeculationFlags speculation;
  ImageFlags images;
  SessionFlags session;
  std::string system;
  Option system_option;
  std::string on_full;  ///< "ask", "stop" or "slide"; empty: by whether somebody can be asked.
};

/// A conversation with whoever is at standard input: messages, and commands that begin with /.
class Chat {
 public:
  /// `options` must outlive it. Goes on with the session of the options. Throws as Session and
  /// Session::load do.
  Chat(const ChatOptions& options, const lapidary::Model& model, std::vector<Picture> pictures);

  /// Until the end of the input; returns the exit code. Throws what a script ends with.
  int run();

 private:
  struct Command {
    const char* name;
    const char* argument;
    const char* help;
    void (Chat::*run)(const std::string& argument);
  };
  static std::span<const Command> commands();
  static std::vector<std::string> command_names();

  int converse();
  void handle(const std::string& text);
  void command(const std::string& line);
  bool attach_pasted(const std::string& message);

  void fail(const lapidary::Error& error) const;
  void fail_or_stop(const lapidary::Error& error, const std::string& while_doing);
  std::string ways_to_room() const;

  bool send(const std::string& text);
  bool say(const UserMessage& message);
  bool say(const UserMessage& message, int drop);
  using Draw = std::function<Reply(const lapidary::OnText&, const lapidary::Progress&)>;
  Reply watched(const Draw& draw);
  void explain_length() const;
  std::string statistics() const;
  std::uint64_t seed() const;

  // When the context is full.
  bool slides() const { return options_.on_full == "slide"; }
  bool may_drop() const;
  bool context_is_full() const;
  int reply_room() const;
  int room_to_make() const;
  std::optional<int> make_room(const UserMessage& message);
  bool drop_agreed(int drop, const std::string& purpose);
  void go_on(lapidary::GenerateOptions options);

  // The file of the session.
  void load_session(const std::string& path);
  void keep();

  // The commands.
  bool nothing_said() const;
  void help(const std::string&);
  void leave(const std::string&);
  void clear(const std::string&);
  void undo(const std::string&);
  void regenerate(const std::string&);
  void edit(const std::string& argument);
  void rewind(const std::string& argument);
  void take_back(int turns);
  void list_turns() const;
  void drop_attached();
  void read(const std::string& argument);
  void system(const std::string& text);
  void image(const std::string& argument);
  void attach(const std::vector<std::string>& paths);
  void save(const std::string& argument);
  void load(const std::string& argument);
  void set(const std::string& argument);
  void show(const std::string&);
  void tokens(const std::string&);

  const ChatOptions& options_;
  ChatFlag template_;  // As the options have it, or a loaded conversation.
  SamplingFlags sampling_;
  Conversation talk_;
  LineEditor editor_;
  Output output_;
  std::string attached_;  // Files that go in front of the next message.
  WaitingPictures waiting_;
  PrefixWarning prefix_warning_;
  std::string draft_;  // Text that the next prompt begins with.
  std::optional<Reply> last_;
  std::optional<SessionFile> file_;  // Where the conversation is kept.
  bool changed_ = false;             // It is not what that file holds.
  std::uint64_t random_seed_;
  std::uint64_t tries_ = 0;  // Added to the seed, so that /regen draws something else.
  bool asked_ = false;       // The last thing that happened was a Ctrl-C on an empty line.
  bool leave_ = false;
};

/// A line on standard error, for a person.
void note(const std::string& text);

}  // namespace cli
