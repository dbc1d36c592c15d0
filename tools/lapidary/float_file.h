#pragma once

#include <span>
#include <string>

namespace cli {

/// A file that takes float32 values as they are computed, little-endian. Making it throws
/// Error(kFile).
class FloatFile {
 public:
  explicit FloatFile(std::string path);
  ~FloatFile();
  FloatFile(const FloatFile&) = delete;
  FloatFile& operator=(const FloatFile&) = delete;

  /// False when a write failed, now or earlier: what computes more of them may stop.
  bool write(std::span<const float> values);

  /// Throws ClosedPipe, or Error(kFailed) with the reason, when a write has failed.
  void check() const;

 private:
  std::string path_;
  int file_;
  int error_ = 0;
};

}  // namespace cli
