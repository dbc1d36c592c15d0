#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "lapidary/lapidary.h"
#include "options.h"

namespace cli {

/// Which saved session a command goes on with.
struct SessionFlags {
  std::string path;        ///< Empty: none.
  bool read_only = false;  ///< Ask, and leave the file as it is.
  bool recompute = false;  ///< Read the tokens again where keys and values cannot be used.

  lapidary::IfUnusable if_unusable() const {
    return recompute ? lapidary::IfUnusable::kRecompute : lapidary::IfUnusable::kRefuse;
  }

  /// Throws Error(kUsage) for flags that mean nothing without a file.
  void check() const;
};
void add_session_flags(CLI::App& app, SessionFlags& flags);

/// A file that a session is loaded from and saved to. Remembers which one it was: what another
/// process has put there meanwhile is not written over.
class SessionFile {
 public:
  explicit SessionFile(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }

  /// Whether `path` is the same file, by its name or another one.
  bool is(const std::string& path) const;

  /// Whether there is anything of this name.
  bool there() const;

  /// Throws as Session::load; Error(kFile) with both ways out where a recomputation would do.
  lapidary::Loaded load(lapidary::Session& session, lapidary::IfUnusable otherwise,
                        const lapidary::Progress& progress);

  /// Saves over what was loaded or saved here, or where nothing was. Throws Error(kFile) when
  /// something else is there now, and as Session::save.
  void save(lapidary::Session& session, std::string_view note);

  /// Saves over any other session, too, but over nothing else: throws Error(kFile).
  void save_over(lapidary::Session& session, std::string_view note);

 private:
  struct Identity {
    ::dev_t device;
    ::ino_t file;
    ::off_t bytes;
    std::int64_t changed;  // Nanoseconds.
    bool operator==(const Identity&) const = default;
  };
  std::optional<Identity> now_there() const;

  std::string path_;
  std::optional<Identity> known_;
};

}  // namespace cli
