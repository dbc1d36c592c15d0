#include "terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <utility>

#include "lapidary/error.h"
#include "lapidary/utf8.h"
#include "text.h"

namespace cli {

std::atomic<bool> interrupted{false};

namespace {

std::atomic<Interrupts> reaction{Interrupts::kExit};
std::atomic<const char*> last_words{nullptr};
static_assert(std::atomic<bool>::is_always_lock_free &&
              std::atomic<Interrupts>::is_always_lock_free &&
              std::atomic<const char*>::is_always_lock_free);

extern "C" void on_interrupt(int) {
  const Interrupts what = reaction.load();
  if (what == Interrupts::kExit || (what == Interrupts::kStop && interrupted.load())) {
    if (const char* words = last_words.load()) {
      // What a progress bar has drawn is overwritten.
      if (isatty(STDERR_FILENO) == 1) write_all(STDERR_FILENO, "\r\x1b[K");
      for (const char* text : {"lapidary: ", words, "\n"}) write_all(STDERR_FILENO, text);
    }
    _exit(130);
  }
  interrupted.store(true);
}

}  // namespace

void install_signal_handlers() {
  struct sigaction action = {};
  sigemptyset(&action.sa_mask);
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
  action.sa_handler = on_interrupt;  // Without SA_RESTART: a read at the prompt returns.
  sigaction(SIGINT, &action, nullptr);
}

void hold_interrupts(Interrupts what) { reaction.store(what); }

void say_when_interrupted(const char* message) { last_words.store(message); }

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const lapidary::Utf8Step step = lapidary::next_utf8(text);
    const std::string_view character = text.substr(0, step.bytes);
    const char32_t code = step.code_point;
    text.remove_prefix(step.bytes);
    if (!step.valid) {
      out += "\xEF\xBF\xBD";
      continue;
    }
    const bool control =
        (code < 0x20 && code != '\n' && code != '\t') || (code >= 0x7F && code < 0xA0);
    // These turn round how the text behind them is shown.
    const bool turns = (code >= 0x202A && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
    if (!control && !turns) out.append(character);
  }
  return out;
}

std::string one_line(std::string_view text) {
  std::string line = printable(text);
  std::replace(line.begin(), line.end(), '\n', ' ');
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line;
}

int write_all(int file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t wrote = ::write(file, text.data(), text.size());
    if (wrote < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    text.remove_prefix(static_cast<std::size_t>(wrote));
  }
  return 0;
}

Output::Output() : terminal_(isatty(STDOUT_FILENO) == 1) {}

bool Output::write(std::string_view text) {
  if (error_ != 0) return false;
  std::string clean;
  if (terminal_) {
    clean = printable(text);
    text = clean;
  }
  if (text.empty()) return true;
  last_ = text.back();
  error_ = write_all(STDOUT_FILENO, text);
  return error_ == 0;
}

void Output::check() const {
  if (error_ == EPIPE) throw ClosedPipe{};
  if (error_ != 0) {
    throw lapidary::Error(lapidary::ErrorCode::kFailed,
                          std::string("cannot write to standard output: ") + std::strerror(error_));
  }
}

void Output::end_line() {
  if (last_ != '\n') write("\n");
}

ProgressBar::ProgressBar(std::string label, bool quiet)
    : label_(std::move(label)), enabled_(!quiet && isatty(STDERR_FILENO) == 1), start_(now()) {}

void ProgressBar::draw(const std::string& text) {
  drawn_ = true;
  write_all(STDERR_FILENO, "\r" + text + "\x1b[K");
}

void ProgressBar::update(std::uint64_t done, std::uint64_t total, const std::string& detail) {
  const double time = now();
  const double elapsed = time - start_;
  if (!enabled_ || elapsed < 0.5 || time - last_draw_ < 0.1) return;
  if (total == 0 && detail.empty()) return;
  last_draw_ = time;
  if (total == 0) return draw(label_ + ": " + detail);
  const int cells = detail.empty() ? 30 : 20;  // A wider line would not fit a terminal.
  const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
  const int filled = static_cast<int>(share * cells);
  std::string text =
      format("%s [%.*s%.*s] %3.0f %%", label_.c_str(), filled, "##############################",
             cells - filled, "..............................", 100 * share);
  if (!detail.empty()) text += ", " + detail;
  if (share > 0) text += format(", %.0f s left", std::ceil(elapsed * (1 - share) / share));
  draw(text);
}

void ProgressBar::finish() {
  if (drawn_) write_all(STDERR_FILENO, "\r\x1b[K");
  drawn_ = false;
}

lapidary::Progress ProgressBar::callback() {
  if (!enabled_) return {};
  return [this](std::uint64_t done, std::uint64_t total) { update(done, total); };
}

namespace {

// What NoEcho changed. Signal handlers read it: everything stands before the flag is set.
termios with_echo, without_echo;
constexpr int kEndings[] = {SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
struct sigaction actions_before[std::size(kEndings)];
std::atomic<bool> echo_is_off{false};

void handle_endings();

// Gives the terminal back and lets the signal do what it does; after a stop, takes it again.
extern "C" void on_ending(int signal) {
  const int error = errno;
  if (echo_is_off) tcsetattr(STDIN_FILENO, TCSANOW, &with_echo);
  for (std::size_t i = 0; i < std::size(kEndings); ++i) {
    if (kEndings[i] == signal) sigaction(signal, &actions_before[i], nullptr);
  }
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, signal);
  raise(signal);
  sigprocmask(SIG_UNBLOCK, &blocked, nullptr);
  // Here again after a stop, in the foreground or not.
  if (echo_is_off) {
    handle_endings();
    if (tcgetpgrp(STDIN_FILENO) == getpgrp()) tcsetattr(STDIN_FILENO, TCSANOW, &without_echo);
  }
  errno = error;
}

void handle_endings() {
  struct sigaction action = {};
  sigemptyset(&action.sa_mask);
  action.sa_handler = on_ending;
  action.sa_flags = SA_RESTART;
  for (std::size_t i = 0; i < std::size(kEndings); ++i)
    sigaction(kEndings[i], &action, &actions_before[i]);
}

}  // namespace

NoEcho::NoEcho() {
  if (echo_is_off || isatty(STDIN_FILENO) != 1 || tcgetattr(STDIN_FILENO, &with_echo) != 0) return;
  without_echo = with_echo;
  without_echo.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  changed_ = true;
  handle_endings();
  echo_is_off = true;
  tcsetattr(STDIN_FILENO, TCSANOW, &without_echo);
}

NoEcho::~NoEcho() {
  if (!changed_) return;
  tcsetattr(STDIN_FILENO, TCSANOW, &with_echo);
  echo_is_off = false;
  for (std::size_t i = 0; i < std::size(kEndings); ++i)
    sigaction(kEndings[i], &actions_before[i], nullptr);
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void complain(std::string_view message) {
  write_all(STDERR_FILENO, "lapidary: " + one_line(message) + "\n");
}

}  // namespace cli
