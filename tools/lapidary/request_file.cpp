#include "request_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "lapidary/error.h"
#include "text_file.h"

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;

namespace {

int open_requests(const std::string& path) {
  if (path == "-") return STDIN_FILENO;
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw Error(ErrorCode::kFile, "cannot open " + path + ": " + std::strerror(errno));
  return file;
}

}  // namespace

RequestFile::RequestFile(const std::string& path)
    : file_(open_requests(path)), lines_(file_, path == "-" ? "standard input" : path) {
  struct stat status = {};
  if (fstat(file_, &status) == 0 && S_ISREG(status.st_mode))
    bytes_ = static_cast<std::uint64_t>(status.st_size);
}

RequestFile::~RequestFile() {
  if (file_ > STDERR_FILENO) ::close(file_);
}

Next RequestFile::poll(std::string& line) {
  for (;;) {
    if (const Next got = lines_.poll(line); got != Next::kLine) return got;
    if (number() == 1) line = without_mark(std::move(line));
    if (line.ends_with('\r')) line.pop_back();
    if (too_long() || no_memory() || line.find_first_not_of(" \t\r") != std::string::npos)
      return Next::kLine;
  }
}

bool RequestFile::next(std::string& line) {
  Next got = poll(line);
  for (; got == Next::kNotYet; got = poll(line)) wait();
  return got == Next::kLine;
}

}  // namespace cli
