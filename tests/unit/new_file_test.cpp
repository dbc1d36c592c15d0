// Files that appear whole or not at all: what may be replaced, disks that are full, writers that
// are killed, and what they leave.

#include "base/new_file.h"

#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <string_view>

#include "file_folder.h"
#include "lapidary/error.h"

namespace lapidary::testing {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

void write_file(const std::string& path, std::string_view text) {
  NewFile file(path);
  file.write(bytes_of(text));
  file.commit(Outlives::kProcess);
}

TEST(NewFile, IsThereOnceItIsCommitted) {
  const Folder folder;
  const std::string path = folder.path("a");
  {
    NewFile file(path);
    file.write(bytes_of("one"));
    file.write(bytes_of(" two"));
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_EQ(folder.names().size(), 1U);
    file.commit(Outlives::kMachine);
    EXPECT_EQ(folder.read("a"), "one two");
  }
  EXPECT_EQ(folder.names(), std::vector<std::string>{"a"});
}

TEST(NewFile, LeavesTheOldFileWhereItIsGivenUp) {
  const Folder folder;
  write_file(folder.path("a"), "old");
  {
    NewFile file(folder.path("a"));
    file.write(bytes_of("new"));
  }
  EXPECT_EQ(folder.read("a"), "old");
  EXPECT_EQ(folder.names().size(), 1U);
}

TEST(NewFile, KeepsPermissions) {
  const Folder folder;
  struct stat status = {};
  write_file(folder.path("a"), "x");
  ASSERT_EQ(::stat(folder.path("a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  ::chmod(folder.path("a").c_str(), 0640);
  write_file(folder.path("a"), "y");
  ASSERT_EQ(::stat(folder.path("a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0640U);
}

TEST(NewFile, RefusesWhatIsNoFile) {
  const Folder folder;
  std::filesystem::create_directory(folder.path("folder"));
  ASSERT_EQ(::mkfifo(folder.path("fifo").c_str(), 0600), 0);
  write_file(folder.path("file"), "x");
  std::filesystem::create_symlink(folder.path("file"), folder.path("link"));
  std::filesystem::create_symlink(folder.path("nowhere"), folder.path("dangling"));
  const auto refused = [](const std::string& path, std::string_view why) {
    try {
      NewFile file(path);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kFile);
      EXPECT_EQ(std::string(error.what()), path + ": " + std::string(why));
      return;
    }
    ADD_FAILURE() << path << " was not refused";
  };
  refused(folder.path("folder"), "expected a file, found a directory");
  refused(folder.path("folder/"), "expected the name of a file");
  refused("", "expected the name of a file");
  refused(folder.path("fifo"), "expected a regular file");
  refused("/dev/null", "expected a regular file");
  refused(folder.path("link"), "expected a file, found a link, which is not written through");
  refused(folder.path("dangling"), "expected a file, found a link, which is not written through");
  refused(folder.path("none/a"), "cannot be written: No such file or directory");
  EXPECT_EQ(folder.names().size(), 5U) << "nothing was left";
}

TEST(NewFile, LongNames) {
  const Folder folder;
  std::string name(251, 'n');
  name += "\u00e4\u00e4";  // 255 bytes, the most that most file systems take.
  write_file(folder.path(name), "x");
  EXPECT_EQ(folder.names(), std::vector<std::string>{name});
}

/// What `write` throws where no file may be longer than `most` bytes.
std::string error_beyond(::rlim_t most, const std::string& path) {
  ::rlimit before = {};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const ::rlimit small = {most, before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  std::string message;
  try {
    write_file(path, std::string(most + 1, 'x'));
  } catch (const Error& error) {
    message = error.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  return message;
}

TEST(NewFile, AFileThatMayNotGrow) {
  const Folder folder;
  write_file(folder.path("a"), "old");
  EXPECT_EQ(error_beyond(4096, folder.path("a")),
            folder.path("a") + ": cannot be written: File too large");
  EXPECT_EQ(folder.read("a"), "old");
  EXPECT_EQ(folder.names().size(), 1U);
}

TEST(NewFile, ADiskThatIsFull) {
  const Folder folder;
  const std::string disk = folder.path("disk");
  std::filesystem::create_directory(disk);
  if (::mount("none", disk.c_str(), "tmpfs", 0, "size=64k") != 0)
    GTEST_SKIP() << "no file system can be mounted here";
  write_file(disk + "/a", "old");
  std::string message;
  try {
    write_file(disk + "/a", std::string(100000, 'x'));
  } catch (const Error& error) {
    message = error.what();
  }
  EXPECT_EQ(message, disk + "/a: cannot be written: No space left on device");
  EXPECT_EQ(folder.read("disk/a"), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(disk), {}), 1);
  ::umount(disk.c_str());
}

/// A process that has begun to write `path`, and waits to be killed.
class Writer {
 public:
  explicit Writer(const std::string& path) {
    int ends[2] = {};
    if (::pipe(ends) != 0) return;
    child_ = ::fork();
    if (child_ == 0) {
      NewFile file(path);
      file.write(bytes_of("half"));
      const bool told = ::write(ends[1], "x", 1) == 1;
      while (told) ::pause();
      ::_exit(1);
    }
    char begun = 0;
    EXPECT_EQ(::read(ends[0], &begun, 1), 1);
    ::close(ends[0]);
    ::close(ends[1]);
  }
  ~Writer() { kill(); }
  void kill() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = 0;
  }

 private:
  ::pid_t child_ = 0;
};

TEST(NewFile, WhatKilledWritersLeaveIsRemoved) {
  const Folder folder;
  folder.write("a", "old");
  folder.write("a.1.partial", "not of a writer");
  folder.write("b.1.2.partial", "of another file");
  {
    Writer gone(folder.path("a")), alive(folder.path("a"));
    EXPECT_EQ(folder.names().size(), 5U);
    gone.kill();
    remove_abandoned(folder.path("a"));
    EXPECT_EQ(folder.names().size(), 4U) << "the one under way stays";
    alive.kill();
    remove_abandoned(folder.path("a"));
    EXPECT_EQ(folder.names(), (std::vector<std::string>{"a", "a.1.partial", "b.1.2.partial"}));
  }
  remove_abandoned(folder.path(""));
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"a", "a.1.partial"}));
  EXPECT_EQ(folder.read("a"), "old");
  remove_abandoned(folder.path("none/"));
}

}  // namespace
}  // namespace lapidary::testing
