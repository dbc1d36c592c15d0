#include "request_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>
#include <utility>

#include "json.h"
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

RequestFile::RequestFile(const std::string& path, const RequestShare& share)
    : file_(open_requests(path)),
      name_(path == "-" ? "standard input" : path),
      lines_(file_, name_),
      share_(share) {
  struct stat status = {};
  if (fstat(file_, &status) == 0 && S_ISREG(status.st_mode))
    bytes_ = static_cast<std::uint64_t>(status.st_size);
}

RequestFile::~RequestFile() {
  if (file_ > STDERR_FILENO) ::close(file_);
}

void RequestFile::take_numbers(const std::string& line) {
  const char* end = line.data() + line.size();
  const auto [blank, first] = std::from_chars(line.data(), end, number_);
  const bool parted = first == std::errc() && number_ > 0 && blank != end && *blank == ' ';
  const auto [rest, second] = std::from_chars(parted ? blank + 1 : end, end, place_);
  if (!parted || second != std::errc() || rest != end) {
    throw Error(ErrorCode::kFile, name_ + " line " + std::to_string(lines_.number()) +
                                      ": expected the numbers of a line and of a request, found " +
                                      (line.empty() ? "an empty line" : shortened(line, 60)));
  }
  announced_ = true;
}

// The next line that may be a request, and its number.
Next RequestFile::poll_line(std::string& line) {
  Next got = lines_.poll(line);
  if (!share_.numbered) {
    number_ = lines_.number();
    return got;
  }
  if (got == Next::kLine && !announced_) {
    take_numbers(line);
    got = lines_.poll(line);
  }
  if (got == Next::kLine) announced_ = false;
  return got;
}

Next RequestFile::poll(std::string& line) {
  for (;;) {
    if (const Next got = poll_line(line); got != Next::kLine) return got;
    if (number() == 1) line = without_mark(std::move(line));
    if (line.ends_with('\r')) line.pop_back();
    if (share_.numbered) return Next::kLine;
    const bool blank = line.find_first_not_of(" \t\r") == std::string::npos;
    if (blank && !too_long() && !no_memory()) continue;
    place_ = met_++;
    if (share_.shard.has(place_)) return Next::kLine;
  }
}

bool RequestFile::next(std::string& line) {
  Next got = poll(line);
  for (; got == Next::kNotYet; got = poll(line)) wait();
  return got == Next::kLine;
}

}  // namespace cli
