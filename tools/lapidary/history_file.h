#pragma once

#include <filesystem>
#include <string>

struct history;  // libedit's History.

namespace cli {

/// The lines that were typed into chats, one file for all of them, in libedit's format and readable
/// by its owner only. Several programs may use it at once: each appends what is typed, under a
/// lock, and nobody writes over what another has added.
class HistoryFile {
 public:
  /// Where it lies in the XDG state folder; nowhere when no home is known or when what lies there
  /// is no history, which stays as it is.
  HistoryFile();

  /// Reads what is there into `into`.
  void load(struct history* into) const;

  /// Adds one entry behind what is there now.
  void append(const std::string& entry) const;

  /// Shortens a file that has grown far beyond what is loaded, keeping the newest entries.
  void shorten() const;

  static constexpr int kMostEntries = 1000;

 private:
  std::filesystem::path path_;
};

}  // namespace cli
