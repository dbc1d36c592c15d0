#pragma once

#include <termios.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "lapidary/stats.h"

namespace cli {

/// Set by SIGINT once interrupts are held (hold_interrupts); what runs stops after its current
/// chunk or token.
extern std::atomic<bool> interrupted;

/// SIGPIPE is ignored (a write then fails with EPIPE); SIGINT ends the process with 130 until
/// interrupts are held.
void install_signal_handlers();

enum class Interrupts {
  kExit,      ///< The process ends at once with 130.
  kStop,      ///< The first sets `interrupted`, a second one ends the process.
  kStopOnly,  ///< Every one sets `interrupted`: for a program that asks what to do next.
};
void hold_interrupts(Interrupts what);

/// What complain() would say is said when an interrupt ends the process at once; nothing by
/// default. `message` must stay valid.
void say_when_interrupted(const char* message);

/// Thrown when the reader of our output has gone: the process ends with 1 and says nothing.
struct ClosedPipe {};

/// `text` without what could steer a terminal: C0 controls but tab and newline, DEL and C1 controls
/// (U+0080 to U+009F) are dropped, and so are the controls that turn the direction of text around
/// (U+202A to U+202E, U+2066 to U+2069); bytes that are no valid UTF-8 become U+FFFD. `text` must
/// hold whole characters.
std::string printable(std::string_view text);

/// `text` as one printable line, for messages that quote files and arguments.
std::string one_line(std::string_view text);

/// Standard output, unbuffered, so that an interrupt loses nothing. Control characters are dropped
/// when it is a terminal.
class Output {
 public:
  Output();
  bool terminal() const { return terminal_; }

  /// False when the write failed, now or earlier; nothing is written after a failure.
  bool write(std::string_view text);

  /// Throws ClosedPipe, or Error(kFailed) with the reason, when a write has failed.
  void check() const;

  /// Ends the line if text was written and it does not end in a newline.
  void end_line();

 private:
  bool terminal_;
  int error_ = 0;
  char last_ = '\n';
};

/// write(2) until all of `text` is out; returns 0 or errno.
int write_all(int file, std::string_view text);

/// A bar with the time left on standard error, only when that is a terminal, and only for work that
/// takes long. Erased when it ends, so it never mixes with output.
class ProgressBar {
 public:
  ProgressBar(std::string label, bool quiet);
  ~ProgressBar() { finish(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// `detail` stands behind the share; without a total (0) it stands alone.
  void update(std::uint64_t done, std::uint64_t total, const std::string& detail = {});
  void finish();
  lapidary::Progress callback();

 private:
  void draw(const std::string& text);

  std::string label_;
  bool enabled_;
  bool drawn_ = false;
  double start_;
  double last_draw_ = 0;
};

/// While it lives, what is typed does not show among what is written. It is not lost: whoever reads
/// next gets it. A signal that ends or stops the process gives the terminal back first. One that is
/// made while there is one already does nothing.
class NoEcho {
 public:
  NoEcho();
  ~NoEcho();
  NoEcho(const NoEcho&) = delete;
  NoEcho& operator=(const NoEcho&) = delete;

 private:
  bool changed_ = false;
};

/// Seconds on a clock that never goes back.
double now();

/// One line on standard error: "lapidary: …".
void complain(std::string_view message);

}  // namespace cli
