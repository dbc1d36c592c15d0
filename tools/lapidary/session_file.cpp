#include "session_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "terminal.h"
#include "text.h"

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;

void SessionFlags::check() const {
  if (path.empty() && read_only)
    throw Error(ErrorCode::kUsage, "--session-read-only needs --session FILE");
}

void add_session_flags(CLI::App& app, SessionFlags& flags) {
  add_option(app, "--session", flags.path,
             "go on with the session in FILE, where it is there, and save it there")
      .show_type("FILE");
  add_flag(app, "--session-read-only", flags.read_only,
           "ask the session in FILE without changing the file");
  add_flag(app, "--session-recompute", flags.recompute,
           "read a session's tokens again where its keys and values are damaged, or those of "
           "another model or --kv");
}

std::optional<SessionFile::Identity> SessionFile::now_there() const {
  struct stat status = {};
  if (::stat(path_.c_str(), &status) != 0) return {};
  const std::int64_t changed =
      std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
  return Identity{status.st_dev, status.st_ino, status.st_size, changed};
}

bool SessionFile::is(const std::string& path) const {
  std::error_code none;
  return path == path_ || std::filesystem::equivalent(path, path_, none);
}

bool SessionFile::there() const { return now_there().has_value(); }

lapidary::Loaded SessionFile::load(lapidary::Session& session, lapidary::IfUnusable otherwise,
                                   const lapidary::Progress& progress) {
  const std::optional<Identity> before = now_there();
  lapidary::Loaded loaded = session.load(path_, otherwise, progress, &interrupted);
  known_ = before;
  return loaded;
}

void SessionFile::save(lapidary::Session& session, std::string_view note) {
  const std::optional<Identity> there = now_there();
  if (there && there != known_)
    throw Error(ErrorCode::kFile, one_line(path_) +
                                      " was changed by another program since it was read; "
                                      "nothing was saved");
  session.save(path_, note);
  known_ = now_there();
}

namespace {

bool begins_as_session(const std::string& path) {
  constexpr std::string_view kBegin = "LAPISESS";
  char begin[kBegin.size()] = {};
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return false;
  const ssize_t got = ::read(file, begin, sizeof begin);
  ::close(file);
  return std::string_view(begin, got > 0 ? static_cast<std::size_t>(got) : 0) == kBegin;
}

}  // namespace

void SessionFile::save_over(lapidary::Session& session, std::string_view note) {
  if (there() && !begins_as_session(path_))
    throw Error(ErrorCode::kFile,
                one_line(path_) + " is there and no saved session; it is left as it is");
  known_ = now_there();
  save(session, note);
}

}  // namespace cli
