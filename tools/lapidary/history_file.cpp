#include "history_file.h"

#include <fcntl.h>
#include <histedit.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string_view>
#include <system_error>

namespace cli {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kCookie = "_HiStOrY_V2_";

fs::path history_path() {
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state != '\0')
    return fs::path(state) / "lapidary" / "history";
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') return {};
  return fs::path(home) / ".local" / "state" / "lapidary" / "history";
}

int open_private(const fs::path& path, int flags) {
  const int file = ::open(path.c_str(), flags | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
  struct stat status = {};
  // A link to a device is not ours to change.
  if (file >= 0 && ::fstat(file, &status) == 0 && S_ISREG(status.st_mode)) {
    ::fchmod(file, 0600);
    return file;
  }
  if (file >= 0) ::close(file);
  return -1;
}

// Held by whoever writes. A file of its own, since the history is replaced when it is shortened.
class Lock {
 public:
  explicit Lock(const fs::path& path) : file_(open_private(path.string() + ".lock", O_RDWR)) {
    if (file_ >= 0) ::flock(file_, LOCK_EX);
  }
  ~Lock() {
    if (file_ >= 0) ::close(file_);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  int file_;
};

using Entries = std::unique_ptr<History, void (*)(History*)>;

Entries no_entries(int most) {
  Entries entries(history_init(), history_end);
  HistEvent event;
  history(entries.get(), &event, H_SETSIZE, most);
  return entries;
}

// Whether all of `entries` was written; `file` is closed.
bool save(History* entries, std::FILE* file) {
  if (file == nullptr) return false;
  HistEvent event;
  const bool saved = history(entries, &event, H_SAVE_FP, file) >= 0;
  return std::fclose(file) == 0 && saved;
}

}  // namespace

HistoryFile::HistoryFile() : path_(history_path()) {
  if (path_.empty()) return;
  std::error_code error;
  fs::create_directories(path_.parent_path(), error);
  const int file = open_private(path_, O_WRONLY);
  if (file >= 0) ::close(file);
  std::string first;
  std::ifstream lines(path_);
  std::getline(lines, first);
  if (file < 0 || !(first.empty() || first == kCookie)) path_.clear();
}

void HistoryFile::load(History* into) const {
  if (path_.empty()) return;
  HistEvent event;
  history(into, &event, H_LOAD, path_.c_str());
}

void HistoryFile::append(const std::string& entry) const {
  if (path_.empty()) return;
  const Entries one = no_entries(1);
  HistEvent event;
  history(one.get(), &event, H_ENTER, entry.c_str());
  const Lock lock(path_);
  const int file = open_private(path_, O_WRONLY | O_APPEND);
  if (file < 0) return;
  const off_t size = ::lseek(file, 0, SEEK_END);
  std::FILE* const stream = ::fdopen(file, "a");
  // libedit begins a file, and only a file, with its mark.
  if (stream != nullptr) std::fseek(stream, 0, SEEK_END);
  // Half a line, where a disk is full, would be joined to the next.
  if (!save(one.get(), stream) && ::truncate(path_.c_str(), size) != 0) return;
}

void HistoryFile::shorten() const {
  if (path_.empty()) return;
  const Lock lock(path_);
  std::ifstream lines(path_);
  int count = 0;
  for (std::string line; std::getline(lines, line);) ++count;
  if (count < kMostEntries + kMostEntries / 4) return;
  const Entries newest = no_entries(kMostEntries);
  HistEvent event;
  if (history(newest.get(), &event, H_LOAD, path_.c_str()) < 0) return;
  // Where the name is a link, what it points to is replaced.
  std::error_code error;
  const fs::path place = fs::canonical(path_, error);
  if (error) return;
  const fs::path partial = place.string() + ".partial";
  const int file = open_private(partial, O_WRONLY | O_TRUNC);
  if (file >= 0 && save(newest.get(), ::fdopen(file, "w"))) {
    fs::rename(partial, place, error);
  } else {
    fs::remove(partial, error);
  }
}

}  // namespace cli
