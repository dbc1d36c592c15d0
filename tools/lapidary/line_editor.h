#pragma once

#include <memory>
#include <string>

namespace cli {

/// Reads lines from standard input: with editing, history and bracketed paste (libedit) when both
/// it and standard error are terminals, plainly otherwise. The history is a file that its owner
/// alone can read, in the XDG state folder.
class LineEditor {
 public:
  enum class Event {
    kLine,
    kInterrupt,  ///< Ctrl-C at the prompt; `interrupted` is reset.
    kEnd,        ///< Ctrl-D on an empty line, or the end of the input.
  };

  LineEditor();
  ~LineEditor();

  bool terminal() const;

  /// The next line, without its newline (a pasted one may hold newlines inside). `draft` is put
  /// into the line to be edited.
  Event read(const std::string& prompt, std::string& line, const std::string& draft = {});

  /// Puts `entry` into the history, and the history on disk.
  void remember(const std::string& entry);

 private:
  class Terminal;
  std::unique_ptr<Terminal> terminal_;
  std::string buffer_;  // Read but not handed out, without a terminal.
};

}  // namespace cli
