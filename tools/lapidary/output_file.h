#pragma once

#include <string>
#include <string_view>

namespace cli {

/// A file that is written anew. What lay there stays until keep(): a run that fails destroys
/// nothing. Written under another name beside it and renamed; a pipe or a device is written as it
/// is. Making it throws Error(kFile).
class OutputFile {
 public:
  explicit OutputFile(std::string path);
  /// Without keep(), what was written is removed.
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  /// False when a write failed, now or earlier: what computes more may stop.
  bool write(std::string_view bytes);

  /// Throws ClosedPipe, or Error(kFailed) with the reason, when a write has failed.
  void check() const;

  /// Puts what was written into its place. Throws as check().
  void keep();

 private:
  std::string path_;
  std::string written_;  // The name that is written under; empty: path_ itself.
  int file_ = -1;
  int error_ = 0;
};

/// Throws Error(kUsage) when `out` is the same file as `in`, which `what` names: it would be lost.
/// "-" is a standard stream.
void refuse_same_file(const std::string& out, const std::string& in, const std::string& what);

}  // namespace cli
