#include "line_reader.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "lapidary/error.h"
#include "terminal.h"

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;

namespace {

constexpr std::size_t kReadBytes = std::size_t{1} << 16;
constexpr std::uint64_t kHopeless = std::uint64_t{4} << 30;

}  // namespace

LineReader::LineReader(int file, std::string name) : file_(file), name_(std::move(name)) {}

bool LineReader::fill() {
  buffer_.resize(kReadBytes);
  at_ = 0;
  ssize_t got = -1;
  do {
    if (interrupted) throw Error(ErrorCode::kInterrupted, "interrupted");
    got = ::read(file_, buffer_.data(), buffer_.size());
  } while (got < 0 && errno == EINTR);
  const int error = errno;
  buffer_.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  if (got < 0) throw Error(ErrorCode::kFile, "cannot read " + name_ + ": " + std::strerror(error));
  return got > 0;
}

// A line that there is no memory for is the loss of that line.
void LineReader::append(std::string& line, std::string_view more) {
  try {
    line.append(more);
  } catch (const std::bad_alloc&) {
    no_memory_ = true;
    std::string().swap(line);
  }
}

bool LineReader::next(std::string& line) {
  line.clear();
  too_long_ = no_memory_ = whole_ = false;
  std::uint64_t size = 0;
  while (!whole_ && (at_ < buffer_.size() || fill())) {
    const std::size_t end = std::min(buffer_.find('\n', at_), buffer_.size());
    size += end - at_;
    if (size > most_) {
      too_long_ = true;
      std::string().swap(line);
    } else if (!no_memory_) {
      append(line, {buffer_.data() + at_, end - at_});
    }
    if (size > kHopeless)
      throw Error(ErrorCode::kFile,
                  name_ + " line " + std::to_string(number_ + 1) + ": no line's end in 4 GiB");
    whole_ = end < buffer_.size();
    at_ = end + (whole_ ? 1 : 0);
  }
  if (size == 0 && !whole_) return false;
  read_ += size + (whole_ ? 1 : 0);
  ++number_;
  return true;
}

}  // namespace cli
