#include "runtime/prefix_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <memory>
#include <string_view>
#include <tuple>
#include <utility>

#include "base/format.h"
#include "lapidary/error.h"

namespace lapidary {

namespace {

constexpr std::uint64_t kMostByDefault = std::uint64_t{10} << 30;
constexpr std::string_view kKind = "lapidary-";       // Folders of kinds begin so, …
constexpr std::string_view kEnding = ".kv";           // … files end so, …
constexpr std::string_view kPartial = ".partial";     // … and until they are whole, so.
constexpr std::int64_t kAbandoned = 600'000'000'000;  // Nanoseconds without a write.

[[noreturn]] void refuse(const std::string& path, const char* what) {
  throw Error(ErrorCode::kFile, format("{}: {}", path, what));
}

std::int64_t nanoseconds(const timespec& time) {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

/// Opens the folder `name`, made where it is not there, that nobody but this user and root can
/// write to.
FolderHandle open_folder(int parent, const char* name, const std::string& path, int more_flags) {
  if (::mkdirat(parent, name, 0700) != 0 && errno != EEXIST) refuse(path, std::strerror(errno));
  FolderHandle folder(::openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | more_flags));
  struct stat status = {};
  if (folder.fd() < 0 || ::fstat(folder.fd(), &status) != 0) refuse(path, std::strerror(errno));
  const bool own = status.st_uid == ::geteuid() || status.st_uid == 0;
  if (!own || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    refuse(path, "other users can write to the folder");
  if (::faccessat(folder.fd(), ".", W_OK | X_OK, AT_EACCESS) != 0)
    refuse(path, std::strerror(errno));
  return folder;
}

void make_parents(const std::string& path) {
  for (std::size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1))
    ::mkdir(path.substr(0, at).c_str(), 0700);  // A failure is seen when the folder is opened.
}

/// Calls `body` with every name in the folder but "." and "..".
template <class F>
void each_name(int folder, F&& body) {
  const int own = ::openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (own < 0) return;
  const std::unique_ptr<DIR, int (*)(DIR*)> names(::fdopendir(own), &::closedir);
  if (names == nullptr) {
    ::close(own);
    return;
  }
  while (const dirent* entry = ::readdir(names.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") body(std::string(name));
  }
}

bool write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return true;
}

}  // namespace

FolderHandle::FolderHandle(FolderHandle&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

FolderHandle::~FolderHandle() {
  if (fd_ >= 0) ::close(fd_);
}

PrefixFolder::PrefixFolder(const std::string& path, const std::string& kind,
                           std::uint64_t most_bytes)
    : root_((make_parents(path), open_folder(AT_FDCWD, path.c_str(), path, 0))),
      path_(path + "/" + std::string(kKind) + kind),
      own_(open_folder(root_.fd(), (std::string(kKind) + kind).c_str(), path_, O_NOFOLLOW)),
      most_bytes_(most_bytes) {
  struct statvfs disk = {};
  if (most_bytes_ > 0) return;
  most_bytes_ = kMostByDefault;
  if (::fstatvfs(own_.fd(), &disk) != 0) return;
  const std::uint64_t free = std::uint64_t{disk.f_bavail} * disk.f_frsize;
  most_bytes_ = std::min(most_bytes_, (free + contents().bytes) / 10);
}

std::vector<std::string> PrefixFolder::names() const {
  std::vector<std::string> names;
  each_name(own_.fd(), [&](const std::string& name) {
    if (name.ends_with(kEnding)) names.push_back(name.substr(0, name.size() - kEnding.size()));
  });
  return names;
}

File PrefixFolder::open(const std::string& name) const {
  const std::string file = name + std::string(kEnding);
  return File(own_.fd(), file.c_str(), path_of(file));
}

bool PrefixFolder::has(const std::string& name, std::uint64_t bytes) const {
  struct stat status = {};
  const std::string file = name + std::string(kEnding);
  return ::fstatat(own_.fd(), file.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
         S_ISREG(status.st_mode) && static_cast<std::uint64_t>(status.st_size) == bytes;
}

void PrefixFolder::write(const std::string& name,
                         std::span<const std::span<const std::byte>> parts) const {
  static std::atomic<unsigned> counter{0};
  const std::string file = name + std::string(kEnding);
  const std::string partial = format("{}.{}.{}{}", name, ::getpid(), counter++, kPartial);
  const int fd = ::openat(own_.fd(), partial.c_str(),
                          O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  bool whole = fd >= 0;
  for (const std::span<const std::byte> part : parts) whole = whole && write_all(fd, part);
  int error = errno;
  if (fd >= 0 && ::close(fd) != 0 && whole) {
    whole = false;
    error = errno;
  }
  if (whole && ::renameat(own_.fd(), partial.c_str(), own_.fd(), file.c_str()) == 0) return;
  if (whole) error = errno;
  ::unlinkat(own_.fd(), partial.c_str(), 0);
  throw Error(ErrorCode::kFile,
              format("{}: cannot be written: {}", path_of(file), std::strerror(error)));
}

void PrefixFolder::touch(const std::string& name) const {
  const std::string file = name + std::string(kEnding);
  ::utimensat(own_.fd(), file.c_str(), nullptr, AT_SYMLINK_NOFOLLOW);
}

void PrefixFolder::remove(const std::string& name) const {
  ::unlinkat(own_.fd(), (name + std::string(kEnding)).c_str(), 0);
}

/// Everything of ours; what writers left that were killed is removed on the way.
PrefixFolder::Contents PrefixFolder::contents() const {
  Contents found;
  timespec now = {};
  ::clock_gettime(CLOCK_REALTIME, &now);
  each_name(root_.fd(), [&](const std::string& kind) {
    if (!kind.starts_with(kKind)) return;
    FolderHandle folder(
        ::openat(root_.fd(), kind.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (folder.fd() < 0) return;
    each_name(folder.fd(), [&](std::string name) {
      const bool partial = name.ends_with(kPartial);
      struct stat status = {};
      if ((!partial && !name.ends_with(kEnding)) ||
          ::fstatat(folder.fd(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 ||
          !S_ISREG(status.st_mode))
        return;
      const std::int64_t used = nanoseconds(status.st_mtim);
      if (partial && nanoseconds(now) - used > kAbandoned) {
        ::unlinkat(folder.fd(), name.c_str(), 0);
        return;
      }
      const auto bytes = static_cast<std::uint64_t>(status.st_size);
      found.bytes += bytes;
      if (!partial) found.files.push_back({found.kinds.size(), std::move(name), bytes, used});
    });
    found.kinds.push_back(std::move(folder));
  });
  return found;
}

void PrefixFolder::make_room() const {
  Contents all = contents();
  if (all.bytes <= most_bytes_) return;
  // Of those that were used in the same moment, the last name goes first: it stands on the others.
  std::sort(all.files.begin(), all.files.end(), [](const Stored& a, const Stored& b) {
    return std::tie(a.used, b.name) < std::tie(b.used, a.name);
  });
  for (const Stored& file : all.files) {
    if (all.bytes <= most_bytes_) return;
    ::unlinkat(all.kinds[file.folder].fd(), file.name.c_str(), 0);
    all.bytes -= file.bytes;
  }
}

}  // namespace lapidary
