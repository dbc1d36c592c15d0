#include "text_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "lapidary/error.h"
#include "lapidary/utf8.h"
#include "terminal.h"
#include "text.h"

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;

namespace {

std::string read_to_end(int file, const std::string& name, std::uint64_t most) {
  std::string text;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t got = ::read(file, buffer, sizeof buffer);
    if (got < 0 && interrupted) throw Error(ErrorCode::kInterrupted, "interrupted");
    if (got == 0) return text;
    if (got > 0) text.append(buffer, static_cast<std::size_t>(got));
    if (text.size() > most)
      throw Error(ErrorCode::kFile, name + ": expected a text of at most " + human_bytes(most));
    if (got < 0 && errno != EINTR) {
      const char* reason = std::strerror(errno);
      throw Error(ErrorCode::kFile, format("cannot read %s: %s", name.c_str(), reason));
    }
  }
}

}  // namespace

std::string without_mark(std::string text) {
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  if (text.starts_with(kMark)) text.erase(0, kMark.size());
  return text;
}

std::string prompt_text(std::string text) {
  text = without_mark(std::move(text));
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

std::string read_standard_input(std::uint64_t most) {
  return read_to_end(STDIN_FILENO, "standard input", most);
}

std::string read_text_file(const std::string& path, std::uint64_t most) {
  if (path == "-") return read_standard_input(most);
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0 && interrupted) throw Error(ErrorCode::kInterrupted, "interrupted");
  if (file < 0) throw Error(ErrorCode::kFile, "cannot open " + path + ": " + std::strerror(errno));
  struct Closer {
    int file;
    ~Closer() { ::close(file); }
  } closer{file};
  return read_to_end(file, path, most);
}

void require_utf8(std::string_view text, const std::string& what) {
  if (const auto at = lapidary::find_invalid_utf8(text)) {
    throw Error(ErrorCode::kUsage, what + " is not valid UTF-8: byte " +
                                       format("0x%02x", static_cast<unsigned char>(text[*at])) +
                                       " at offset " + std::to_string(*at));
  }
}

}  // namespace cli
