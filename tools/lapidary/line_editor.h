#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace cli {

/// Reads lines from standard input: with editing, history and bracketed paste (libedit) when both
/// it and standard error are terminals, plainly otherwise.
class LineEditor {
 public:
  enum class Event {
    kLine,
    kInterrupt,  ///< Ctrl-C on an empty line; `interrupted` is reset.
    kCleared,    ///< Ctrl-C on a line with text, which is gone.
    kEnd,        ///< Ctrl-D on an empty line, or the end of the input.
  };

  /// What a line, up to the cursor, may be continued to: whole lines.
  using Completer = std::function<std::vector<std::string>(const std::string& line)>;

  explicit LineEditor(Completer completer);
  ~LineEditor();

  bool terminal() const;

  /// Whether a key other than Ctrl-C was pressed during the last read(), if only to be erased.
  bool typed() const;

  /// The next line, without its newline (a pasted one may hold newlines inside). `draft` is put
  /// into the line to be edited.
  Event read(const std::string& prompt, std::string& line, const std::string& draft = {});

  /// Puts `entry` into the history, and the history on disk.
  void remember(const std::string& entry);

 private:
  class Terminal;
  std::unique_ptr<Terminal> terminal_;
  // Without a terminal: a line from buffer_, without its \r and the mark of a file's beginning.
  std::string take_line(std::size_t end);

  std::string buffer_;  // Read but not handed out.
  bool first_ = true;
};

}  // namespace cli
