#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/format.h"
#include "lapidary/error.h"

namespace lapidary {

namespace {

// More than this in one pread is cut by the kernel anyway.
constexpr std::size_t kMaxRead = std::size_t{1} << 30;

}  // namespace

// Not blocking, so that a pipe without a writer is refused instead of waited for.
File::File(std::string path)
    : path_(std::move(path)), fd_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  check_opened();
}

File::File(int folder, const char* name, std::string path)
    : path_(std::move(path)),
      fd_(::openat(folder, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW)) {
  check_opened();
}

void File::check_opened() {
  if (fd_ < 0) {
    throw Error(ErrorCode::kFile, path_ + ": cannot be opened: " + std::strerror(errno));
  }
  struct stat status = {};
  const char* problem = nullptr;
  if (::fstat(fd_, &status) != 0) {
    problem = std::strerror(errno);
  } else if (S_ISDIR(status.st_mode)) {
    problem = "expected a file, found a directory";
  } else if (!S_ISREG(status.st_mode)) {
    problem = "expected a regular file";
  }
  if (problem != nullptr) {
    ::close(fd_);
    throw Error(ErrorCode::kFile, path_ + ": " + problem);
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
#ifdef POSIX_FADV_SEQUENTIAL
  ::posix_fadvise(fd_, 0, 0, POSIX_FADV_SEQUENTIAL);  // Only a hint; a failure changes nothing.
#endif
}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(std::exchange(other.size_, 0)) {}

void File::read(std::uint64_t offset, std::span<std::byte> out) const {
  std::size_t done = 0;
  // Checked here too, so that offset + done below fits off_t.
  if (offset <= size_ && out.size() <= size_ - offset) {
    while (done < out.size()) {
      const ssize_t count = ::pread(fd_, out.data() + done, std::min(out.size() - done, kMaxRead),
                                    static_cast<off_t>(offset + done));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) {
        throw Error(ErrorCode::kFile, path_ + ": cannot be read: " + std::strerror(errno));
      }
      if (count == 0) break;
      done += static_cast<std::size_t>(count);
    }
    if (done == out.size()) return;
  }
  throw Error(ErrorCode::kFile, format("{}: expected {} bytes at offset {}, found {} (the file was "
                                       "{} bytes long when it was opened)",
                                       path_, out.size(), offset, done, size_));
}

}  // namespace lapidary
