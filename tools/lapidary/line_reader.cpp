#include "line_reader.h"

#include <poll.h>
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

// Whether a read would not wait; so it is where poll(2) knows nothing of the file.
bool LineReader::ready(int milliseconds) const {
  if (interrupted) throw Error(ErrorCode::kInterrupted, "interrupted");
  pollfd file = {file_, POLLIN, 0};
  const int got = ::poll(&file, 1, milliseconds);
  return got > 0 || (got < 0 && errno != EINTR);
}

// An interrupt that comes just before is noticed when the time has passed.
void LineReader::wait() const { ready(200); }

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
void LineReader::append(std::string_view more) {
  try {
    line_.append(more);
  } catch (const std::bad_alloc&) {
    no_memory_ = true;
    std::string().swap(line_);
  }
}

void LineReader::begin() {
  line_.clear();
  too_long_ = no_memory_ = whole_ = false;
  size_ = 0;
  open_ = true;
}

void LineReader::take(std::string_view more) {
  size_ += more.size();
  if (size_ > most_) {
    too_long_ = true;
    std::string().swap(line_);
  } else if (!no_memory_) {
    append(more);
  }
  if (size_ > kHopeless)
    throw Error(ErrorCode::kFile,
                name_ + " line " + std::to_string(number_ + 1) + ": no line's end in 4 GiB");
}

Next LineReader::poll(std::string& line) {
  if (!open_) begin();
  while (!whole_) {
    if (at_ >= buffer_.size()) {
      if (!ready(0)) return Next::kNotYet;
      if (!fill()) break;
    }
    const std::size_t end = std::min(buffer_.find('\n', at_), buffer_.size());
    take({buffer_.data() + at_, end - at_});
    whole_ = end < buffer_.size();
    at_ = end + (whole_ ? 1 : 0);
  }
  open_ = false;
  line.swap(line_);
  if (size_ == 0 && !whole_) return Next::kEnd;
  read_ += size_ + (whole_ ? 1 : 0);
  ++number_;
  return Next::kLine;
}

bool LineReader::next(std::string& line) {
  Next got = poll(line);
  for (; got == Next::kNotYet; got = poll(line)) wait();
  return got == Next::kLine;
}

}  // namespace cli
