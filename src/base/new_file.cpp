#include "base/new_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/format.h"
#include "lapidary/error.h"

namespace lapidary {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEnd = ".partial";
constexpr std::size_t kMostStem = 200;  // Of a name: with numbers behind it, any file system's.
constexpr int kMostTries = 1000;        // Of names that are taken.
constexpr std::size_t kMaxWrite = std::size_t{1} << 30;

struct Place {
  std::string folder;  // With its slash, or empty.
  std::string name;
};

Place place_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {{}, path};
  return {path.substr(0, slash + 1), path.substr(slash + 1)};
}

/// What names of unfinished files of `name` begin with: whole characters of it.
std::string stem_of(const std::string& name) {
  std::size_t length = std::min(name.size(), kMostStem);
  while (length > 0 && length < name.size() &&
         (static_cast<unsigned char>(name[length]) & 0xC0U) == 0x80)
    --length;
  return name.substr(0, length);
}

/// Takes a dot and digits off the end of `name`; false: there are none.
bool take_number(std::string_view& name) {
  const std::size_t last = name.find_last_not_of("0123456789");
  if (last == std::string_view::npos || last + 1 == name.size() || name[last] != '.') return false;
  name.remove_suffix(name.size() - last);
  return true;
}

/// Whether `name` is that of an unfinished file: of `stem`, or of any where that is empty.
bool is_partial(std::string_view name, std::string_view stem) {
  if (!name.ends_with(kEnd)) return false;
  name.remove_suffix(kEnd.size());
  if (!take_number(name) || !take_number(name)) return false;
  return stem.empty() || name == stem;
}

/// Closes a file when it goes out of scope.
struct Closing {
  int fd;
  explicit Closing(int opened) : fd(opened) {}
  Closing(const Closing&) = delete;
  Closing& operator=(const Closing&) = delete;
  ~Closing() {
    if (fd >= 0) ::close(fd);
  }
};

/// Removes `path` where nobody has it locked.
void remove_where_unlocked(const std::string& path) {
  const Closing file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status = {};
  if (file.fd < 0 || ::fstat(file.fd, &status) != 0 || !S_ISREG(status.st_mode)) return;
  if (::flock(file.fd, LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
}

void sync_folder(const std::string& folder) {
  const Closing opened(
      ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY));
  if (opened.fd >= 0) ::fsync(opened.fd);  // Not every file system can; the name is there anyway.
}

/// Why what stands at a path cannot be replaced; nullptr: it can.
const char* not_replaceable(const struct stat& status) {
  if (S_ISREG(status.st_mode)) return nullptr;
  if (S_ISDIR(status.st_mode)) return "expected a file, found a directory";
  if (S_ISLNK(status.st_mode)) return "expected a file, found a link, which is not written through";
  return "expected a regular file";
}

}  // namespace

NewFile::NewFile(std::string path, ::mode_t mode) : path_(std::move(path)) {
  if (place_of(path_).name.empty())
    throw Error(ErrorCode::kFile, path_ + ": expected the name of a file");
  struct stat status = {};
  const bool exists = ::lstat(path_.c_str(), &status) == 0;
  if (exists) {
    if (const char* const problem = not_replaceable(status))
      throw Error(ErrorCode::kFile, path_ + ": " + problem);
  }
  open(mode);
  if (exists) ::fchmod(fd_, status.st_mode & 0777U);  // Else it is nobody's but the owner's.
}

NewFile::~NewFile() {
  if (!partial_.empty()) ::unlink(partial_.c_str());
  if (fd_ >= 0) ::close(fd_);
}

void NewFile::fail(const char* problem) const {
  throw Error(ErrorCode::kFile, path_ + ": cannot be written: " + problem);
}

/// Makes the file under a name that nobody has.
void NewFile::open(::mode_t mode) {
  static std::atomic<unsigned> counter{0};
  const Place place = place_of(path_);
  const std::string stem = place.folder + stem_of(place.name);
  for (int tries = 0; tries < kMostTries; ++tries) {
    partial_ = format("{}.{}.{}{}", stem, ::getpid(), counter++, kEnd);
    fd_ = ::open(partial_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd_ >= 0 && lock()) return;
    const int error = errno;
    if (fd_ >= 0) {
      ::close(std::exchange(fd_, -1));  // Taken for abandoned before it was locked.
    } else if (error != EEXIST) {
      partial_.clear();
      fail(std::strerror(error));
    }
  }
  partial_.clear();
  fail("all names for the unfinished file are taken");
}

/// False: somebody has found it before it was locked, and removes it. Where there are no locks
/// nobody can.
bool NewFile::lock() {
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) return errno != EWOULDBLOCK;
  struct stat status = {};
  return ::fstat(fd_, &status) != 0 || status.st_nlink > 0;
}

void NewFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd_, bytes.data(), std::min(bytes.size(), kMaxWrite));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(std::strerror(errno));
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void NewFile::commit(Outlives what) {
  const bool flush = what == Outlives::kMachine;
  // What is written late, over a network or beyond a quota, fails in these; the lock stays.
  const int copy = ::dup(fd_);
  if (copy < 0 || ::close(copy) != 0 || (flush && ::fsync(fd_) != 0)) fail(std::strerror(errno));
  if (::rename(partial_.c_str(), path_.c_str()) != 0) fail(std::strerror(errno));
  partial_.clear();
  if (flush) sync_folder(place_of(path_).folder);
}

void remove_abandoned(const std::string& path) {
  const Place place = place_of(path);
  const std::string stem = stem_of(place.name);
  std::error_code error;
  const fs::path folder = place.folder.empty() ? "." : place.folder;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (is_partial(name, stem)) remove_where_unlocked(place.folder + name);
  }
}

}  // namespace lapidary
