#include "output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "lapidary/error.h"
#include "terminal.h"

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;
namespace fs = std::filesystem;

OutputFile::OutputFile(std::string path) : path_(std::move(path)) {
  std::error_code none;
  // The file behind a link is replaced, not the link.
  if (fs::is_symlink(path_, none) && fs::exists(path_, none))
    path_ = fs::canonical(path_, none).string();
  struct stat status = {};
  const bool there = ::stat(path_.c_str(), &status) == 0;
  const bool replace = there ? S_ISREG(status.st_mode) : true;
  if (replace && (!there || ::access(path_.c_str(), W_OK) == 0))
    written_ = path_ + "." + std::to_string(::getpid()) + ".partial";
  const std::string& name = written_.empty() ? path_ : written_;
  const int flags = O_WRONLY | O_CLOEXEC | (written_.empty() ? 0 : O_CREAT | O_EXCL);
  file_ = ::open(name.c_str(), flags, there ? status.st_mode & 0777 : 0666);
  if (file_ < 0) {
    const std::string reason = std::strerror(errno);
    written_.clear();
    throw Error(ErrorCode::kFile, "cannot write " + path_ + ": " + reason);
  }
}

OutputFile::~OutputFile() {
  if (file_ >= 0) ::close(file_);
  if (!written_.empty()) ::unlink(written_.c_str());
}

bool OutputFile::write(std::string_view bytes) {
  if (error_ == 0) error_ = write_all(file_, bytes);
  return error_ == 0;
}

void OutputFile::check() const {
  if (error_ == EPIPE) throw ClosedPipe{};
  if (error_ != 0)
    throw Error(ErrorCode::kFailed, "cannot write " + path_ + ": " + std::strerror(error_));
}

void OutputFile::keep() {
  if (error_ == 0 && ::close(std::exchange(file_, -1)) != 0) error_ = errno;
  if (error_ == 0 && !written_.empty()) {
    const std::string written = std::exchange(written_, "");
    if (std::rename(written.c_str(), path_.c_str()) != 0)
      throw Error(ErrorCode::kFailed, "cannot write " + path_ + ": " + std::strerror(errno) +
                                          "; what was computed is in " + written);
  }
  check();
}

void refuse_same_file(const std::string& out, const std::string& in, const std::string& what) {
  std::error_code none;
  const std::string to = out == "-" ? "/dev/stdout" : out;
  const std::string from = in == "-" ? "/dev/stdin" : in;
  // A terminal or /dev/null is read and written as one likes.
  if (fs::is_directory(from, none)) {
    for (fs::directory_iterator entry(from, none), end; !none && entry != end;
         entry.increment(none))
      if (entry->is_regular_file(none)) refuse_same_file(out, entry->path().string(), what);
    return;
  }
  if (!fs::is_regular_file(from, none) || !fs::equivalent(to, from, none)) return;
  throw Error(ErrorCode::kUsage, "the output would be written over " + what + ", " +
                                     (in == "-" ? "standard input" : in));
}

}  // namespace cli
