#include "request_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "lapidary/error.h"
#include "terminal.h"

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;

namespace {

constexpr std::size_t kReadBytes = std::size_t{1} << 16;
constexpr std::uint64_t kHopeless = std::uint64_t{4} << 30;
constexpr std::string_view kMark = "\xEF\xBB\xBF";

}  // namespace

RequestFile::RequestFile(const std::string& path) : path_(path == "-" ? "standard input" : path) {
  file_ = path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file_ < 0)
    throw Error(ErrorCode::kFile, "cannot open " + path_ + ": " + std::strerror(errno));
  struct stat status = {};
  if (fstat(file_, &status) != 0) return;
  if (S_ISREG(status.st_mode)) bytes_ = static_cast<std::uint64_t>(status.st_size);
}

RequestFile::~RequestFile() {
  if (file_ > STDERR_FILENO) ::close(file_);
}

bool RequestFile::fill() {
  buffer_.resize(kReadBytes);
  at_ = 0;
  ssize_t got = -1;
  while ((got = ::read(file_, buffer_.data(), buffer_.size())) < 0 && errno == EINTR) {
    if (interrupted) throw Error(ErrorCode::kInterrupted, "interrupted");
  }
  if (got < 0) throw Error(ErrorCode::kFile, "cannot read " + path_ + ": " + std::strerror(errno));
  buffer_.resize(static_cast<std::size_t>(got));
  return got > 0;
}

// The bytes up to a newline, or to the end; false when there are none.
bool RequestFile::next_line(std::string& line) {
  line.clear();
  too_long_ = false;
  std::uint64_t size = 0;
  for (;;) {
    if (at_ == buffer_.size() && !fill()) break;
    const std::size_t end = std::min(buffer_.find('\n', at_), buffer_.size());
    size += end - at_;
    too_long_ = size > kMostLineBytes;
    if (too_long_) {
      line.clear();
      line.shrink_to_fit();
    } else {
      line.append(buffer_, at_, end - at_);
    }
    if (size > kHopeless)
      throw Error(ErrorCode::kFile, path_ + " line " + std::to_string(number_ + 1) +
                                        ": no line's end in 4 GiB; this is no file of requests");
    const bool whole = end < buffer_.size();
    at_ = whole ? end + 1 : end;
    if (!whole) continue;
    read_ += size + 1;
    ++number_;
    return true;
  }
  read_ += size;
  if (size > 0) ++number_;
  return size > 0;
}

bool RequestFile::next(std::string& line) {
  while (next_line(line)) {
    if (number_ == 1 && line.starts_with(kMark)) line.erase(0, kMark.size());
    if (line.ends_with('\r')) line.pop_back();
    if (too_long_ || line.find_first_not_of(" \t\r") != std::string::npos) return true;
  }
  return false;
}

}  // namespace cli
