#include "answer_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

#include "terminal.h"

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;

AnswerFile::AnswerFile(std::string path, mode_t mode) : path_(std::move(path)), mode_(mode) {
  try {
    open();
  } catch (...) {
    if (file_ > STDERR_FILENO) ::close(file_);
    throw;
  }
}

AnswerFile::~AnswerFile() {
  if (file_ > STDERR_FILENO) ::close(file_);
}

void AnswerFile::fail(ErrorCode code, const char* what, int error) const {
  throw Error(code, what + path_ + ": " + std::strerror(error));
}

void AnswerFile::open() {
  if (path_ == "-") {
    path_ = "standard output";
    file_ = STDOUT_FILENO;
    return;
  }
  struct stat status = {};
  const bool there = ::stat(path_.c_str(), &status) == 0;
  // Of a pipe that this process could read as well, it would never notice that the reader has gone.
  const int flags = there && !S_ISREG(status.st_mode) ? O_WRONLY : O_RDWR | O_CREAT;
  file_ = ::open(path_.c_str(), flags | O_APPEND | O_CLOEXEC, mode_);
  if (file_ < 0) fail(ErrorCode::kFile, "cannot write ", errno);
  if (fstat(file_, &status) != 0 || !S_ISREG(status.st_mode)) return;
  regular_ = true;
  mode_ = status.st_mode & 0777U;
  if (flock(file_, LOCK_EX | LOCK_NB) != 0)
    throw Error(ErrorCode::kFailed, path_ + ": another batch is writing this file");
  recover();
}

void AnswerFile::recover() {
  LineReader lines(file_, path_);
  bool whole = true;
  std::uint64_t end = 0;  // Of the last answer.
  for (std::string line; lines.next(line);) {
    if (lines.no_memory()) throw std::bad_alloc();
    whole = lines.whole();
    if (take_line(line, whole, lines.too_long())) end = lines.read() + (whole ? 0 : 1);
  }
  if (whole) return;
  // Nothing but the newline is missing, or what there is of the last line is of no use.
  if (end > lines.read()) return write("\n");
  if (ftruncate(file_, static_cast<off_t>(end)) != 0)
    fail(ErrorCode::kFailed, "cannot cut ", errno);
}

// Whether it is an answer, not the beginning of one.
bool AnswerFile::take_line(const std::string& line, bool whole, bool too_long) {
  const std::optional<AnswerRecord> record = read_answer(line);
  if (!record && (whole || too_long || !begins_answer(line))) {
    const char* wanted = whole ? "a line that a batch wrote" : "the beginning of such a line";
    throw Error(ErrorCode::kFile, path_ + " line " + std::to_string(count_ + 1) + ": expected " +
                                      wanted + ", found " +
                                      (too_long       ? "more than 64 MiB"
                                       : line.empty() ? "an empty line"
                                                      : shortened(line, 60)) +
                                      "; the file is left as it is");
  }
  if (!record) return false;
  ++count_;
  failed_ += record->failed ? 1 : 0;
  return true;
}

void AnswerFile::rewind() {
  at_ = 0;
  if (count_ == 0) return;
  if (::lseek(file_, 0, SEEK_SET) != 0) fail(ErrorCode::kFile, "cannot read ", errno);
  lines_.emplace(file_, path_);
}

bool AnswerFile::next() {
  if (at_ == count_) return false;
  const bool found = lines_->next(line_);
  if (lines_->no_memory()) throw std::bad_alloc();
  std::optional<AnswerRecord> record = found ? read_answer(line_) : std::nullopt;
  if (!record) fail(ErrorCode::kFile, "something else has changed ", EIO);
  record_ = *std::move(record);
  line_ += '\n';
  ++at_;
  return true;
}

// A reader that takes nothing must not keep the process from being interrupted.
void AnswerFile::wait_for_room() const {
  constexpr int kMilliseconds = 200;
  pollfd file = {file_, POLLOUT, 0};
  while (!regular_ && ::poll(&file, 1, kMilliseconds) <= 0) {
    if (interrupted) throw Error(ErrorCode::kInterrupted, "interrupted");
  }
}

void AnswerFile::write(const std::string& line) {
  std::string_view rest = line;
  while (!rest.empty()) {
    wait_for_room();
    const ssize_t wrote = ::write(file_, rest.data(), rest.size());
    if (wrote < 0 && errno == EPIPE) throw ClosedPipe{};
    if (wrote < 0 && errno != EINTR) fail(ErrorCode::kFailed, "cannot write ", errno);
    if (wrote > 0) rest.remove_prefix(static_cast<std::size_t>(wrote));
  }
}

void AnswerFile::replace(const std::string& path) {
  if (fsync(file_) != 0 || std::rename(path_.c_str(), path.c_str()) != 0)
    fail(ErrorCode::kFailed, "cannot replace the answers by ", errno);
  path_ = path;
}

}  // namespace cli
