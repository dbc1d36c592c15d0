#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace lapidary {

/// A file open for reading at any place, by pread: safe from several threads, and a file that
/// shrinks meanwhile is an error, not a signal.
class File {
 public:
  /// Throws Error(kFile) when `path` is missing, unreadable or no regular file.
  explicit File(std::string path);

  /// `name` in the folder that is open as `folder`, never through a link; `path` is for messages.
  File(int folder, const char* name, std::string path);
  ~File();
  File(File&& other) noexcept;
  File& operator=(File&&) = delete;

  std::uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }

  /// Fills `out` from `offset`. Throws Error(kFile) when fewer bytes are there.
  void read(std::uint64_t offset, std::span<std::byte> out) const;

 private:
  void check_opened();

  std::string path_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace lapidary
