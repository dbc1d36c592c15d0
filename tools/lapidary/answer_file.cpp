#include "answer_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <utility>

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;

AnswerFile::AnswerFile(std::string path) : path_(std::move(path)) {
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
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  const int error = errno;
  // A pipe or a terminal can be written but not read: nothing to resume there.
  if (file_ < 0) file_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (file_ < 0) fail(ErrorCode::kFile, "cannot write ", error);
  struct stat status = {};
  if (fstat(file_, &status) != 0 || !S_ISREG(status.st_mode)) return;
  if (flock(file_, LOCK_EX | LOCK_NB) != 0)
    throw Error(ErrorCode::kFailed, path_ + ": another batch is writing this file");
  recover();
}

void AnswerFile::recover() {
  std::ifstream lines(path_);
  std::string line;
  while (std::getline(lines, line)) {
    const std::string where = path_ + " line " + std::to_string(records_.size() + 1);
    if (lines.eof()) {
      if (begins_answer(line)) break;
      throw Error(ErrorCode::kFile,
                  where + ": expected the beginning of a line that a batch writes, found " +
                      shortened(line, 60) + "; the file is left as it is");
    }
    std::optional<AnswerRecord> record = read_answer(line);
    if (!record)
      throw Error(ErrorCode::kFile, where + ": expected a line that a batch wrote, found " +
                                        shortened(line, 60) + "; the file is left as it is");
    records_.push_back(*std::move(record));
    offsets_.push_back(offsets_.back() + line.size() + 1);
  }
  if (lines.bad()) fail(ErrorCode::kFile, "cannot read ", errno);
  if (ftruncate(file_, static_cast<off_t>(offsets_.back())) != 0)
    fail(ErrorCode::kFailed, "cannot cut ", errno);
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
