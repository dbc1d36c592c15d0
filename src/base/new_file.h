#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <string>

namespace lapidary {

/// What a file that was committed outlives.
enum class Outlives {
  kProcess,  ///< The end of the process, however it comes.
  kMachine,  ///< A power cut too: the disk has it before commit() returns.
};

/// A file that is written under another name in the same folder, and gets its own once all is
/// there: whoever opens `path` finds the old file or the new one, whole, also when the process is
/// killed. The other name is of this process and call alone; it is locked as long as its writer is
/// there, so that remove_abandoned() knows those whose writer was killed. One thread at a time.
///
/// Throws Error(kFile) that names `path`, also when the disk is full.
class NewFile {
 public:
  /// Begins the file that will be `path`, which must not be anything but a regular file: a device,
  /// a folder, a link is not replaced. It gets the permissions of the file that it replaces, else
  /// `mode` less the umask's.
  explicit NewFile(std::string path, ::mode_t mode = 0600);
  /// Removes what was not committed.
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  /// Adds to the end.
  void write(std::span<const std::byte> bytes);

  /// Once, at the end: puts it in the place of what was there.
  void commit(Outlives what);

  const std::string& path() const { return path_; }

 private:
  void open(::mode_t mode);
  bool lock();
  void fail(const char* problem) const;

  std::string path_;
  std::string partial_;  // The other name; empty once it is gone.
  int fd_ = -1;
};

/// Removes what writers of `path` have left that are gone; of an empty name in a folder
/// ("FOLDER/"), those of all names. Those under way stay. A help, no promise: never throws for what
/// cannot be read or removed.
void remove_abandoned(const std::string& path);

}  // namespace lapidary
