#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"

namespace lapidary {

/// An open folder; what is reached through it stays so, whatever is renamed around it.
class FolderHandle {
 public:
  FolderHandle() = default;
  explicit FolderHandle(int fd) : fd_(fd) {}
  FolderHandle(FolderHandle&& other) noexcept;
  FolderHandle& operator=(FolderHandle&&) = delete;
  ~FolderHandle();

  int fd() const { return fd_; }

 private:
  int fd_ = -1;
};

/// What a prefix cache has on disk: a folder with one folder for each kind of keys and values, with
/// files that any number of processes of one user write, read and remove. A file appears whole or
/// not at all. Immutable: safe to use from several threads.
class PrefixFolder {
 public:
  /// The folder `kind` in `path`, both of which are made where they are not there, for this user
  /// alone. `most_bytes` 0: the smaller of 10 GiB and a tenth of what the disk has free, files of
  /// the cache counted as free. Throws Error(kFile) where one of them cannot be made or written, or
  /// where others could write into it: checksums do not protect from whoever can forge them.
  PrefixFolder(const std::string& path, const std::string& kind, std::uint64_t most_bytes);

  /// The names in the folder, anybody's; empty where it cannot be read.
  std::vector<std::string> names() const;

  /// Throws Error(kFile) when it is not there, or no regular file.
  File open(const std::string& name) const;

  /// Whether `name` is a file of that size.
  bool has(const std::string& name, std::uint64_t bytes) const;

  /// Writes `parts` one after the other to a file of another name, which becomes `name` when all is
  /// written. Not flushed to the disk: what a fall of the machine leaves is told by its checksum.
  /// Throws Error(kFile), and leaves nothing then.
  void write(const std::string& name, std::span<const std::span<const std::byte>> parts) const;

  /// Marks a file as used now.
  void touch(const std::string& name) const;

  void remove(const std::string& name) const;

  /// Removes files of all kinds, the longest unused first, until they take most_bytes() at most;
  /// and what writers left that were killed.
  void make_room() const;

  std::uint64_t most_bytes() const { return most_bytes_; }

 private:
  struct Stored {
    std::size_t folder;  // Of the kinds.
    std::string name;
    std::uint64_t bytes;
    std::int64_t used;  // Nanoseconds of the machine's clock.
  };
  struct Contents {
    std::vector<FolderHandle> kinds;
    std::vector<Stored> files;
    std::uint64_t bytes = 0;
  };
  Contents contents() const;
  std::string path_of(const std::string& name) const { return path_ + "/" + name; }

  FolderHandle root_;
  std::string path_;  // Of the kind, for messages.
  FolderHandle own_;
  std::uint64_t most_bytes_;
};

}  // namespace lapidary
