#include "answer_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <utility>

#include "line_reader.h"
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
  mode_ = status.st_mode & 0777U;
  if (flock(file_, LOCK_EX | LOCK_NB) != 0)
    throw Error(ErrorCode::kFailed, path_ + ": another batch is writing this file");
  recover();
}

void AnswerFile::recover() {
  LineReader lines(file_, path_);
  bool whole = true;
  for (std::string line; lines.next(line);) {
    if (lines.no_memory()) throw std::bad_alloc();
    whole = lines.whole();
    take_line(line, whole, lines.too_long());
  }
  if (whole) return;
  // Nothing but the newline is missing, or what there is of the last line is of no use.
  if (offsets_.back() > lines.read()) return write("\n");
  if (ftruncate(file_, static_cast<off_t>(offsets_.back())) != 0)
    fail(ErrorCode::kFailed, "cannot cut ", errno);
}

void AnswerFile::take_line(const std::string& line, bool whole, bool too_long) {
  std::optional<AnswerRecord> record = read_answer(line);
  if (!record && (whole || too_long || !begins_answer(line))) {
    const char* wanted = whole ? "a line that a batch wrote" : "the beginning of such a line";
    throw Error(ErrorCode::kFile, path_ + " line " + std::to_string(records_.size() + 1) +
                                      ": expected " + wanted + ", found " +
                                      (too_long       ? "more than 64 MiB"
                                       : line.empty() ? "an empty line"
                                                      : shortened(line, 60)) +
                                      "; the file is left as it is");
  }
  if (!record) return;
  records_.push_back(*std::move(record));
  offsets_.push_back(offsets_.back() + line.size() + 1);
}

std::string AnswerFile::line(std::size_t index) const {
  std::string text(static_cast<std::size_t>(offsets_[index + 1] - offsets_[index]), '\0');
  std::size_t got = 0;
  while (got < text.size()) {
    const ssize_t more = ::pread(file_, text.data() + got, text.size() - got,
                                 static_cast<off_t>(offsets_[index] + got));
    if (more < 0 && errno == EINTR) continue;
    if (more <= 0) fail(ErrorCode::kFile, "cannot read ", more < 0 ? errno : EIO);
    got += static_cast<std::size_t>(more);
  }
  return text;
}

void AnswerFile::write(const std::string& line) {
  const int error = write_all(file_, line);
  if (error == EPIPE) throw ClosedPipe{};
  if (error != 0) fail(ErrorCode::kFailed, "cannot write ", error);
}

void AnswerFile::replace(const std::string& path) {
  if (fsync(file_) != 0 || std::rename(path_.c_str(), path.c_str()) != 0)
    fail(ErrorCode::kFailed, "cannot replace the answers by ", errno);
  path_ = path;
}

}  // namespace cli
