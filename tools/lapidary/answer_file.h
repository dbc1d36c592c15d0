#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "batch_answer.h"

namespace cli {

/// The file of a batch's answers, one line a request, which this process alone may write. Opening
/// it reads what is there and cuts a last line that a kill left unfinished. A file that holds
/// anything but answers is left as it is: Error(kFile).
class AnswerFile {
 public:
  /// "-" is standard output. A pipe or a device is only written. A file that is not there gets
  /// `mode`. Throws Error(kFailed) when another batch is writing the file.
  explicit AnswerFile(std::string path, mode_t mode = 0666);
  ~AnswerFile();
  AnswerFile(const AnswerFile&) = delete;
  AnswerFile& operator=(const AnswerFile&) = delete;

  const std::string& path() const { return path_; }
  mode_t mode() const { return mode_; }

  /// What the lines that were there answer, in order.
  const std::vector<AnswerRecord>& records() const { return records_; }

  /// The line of records()[index], with its newline.
  std::string line(std::size_t index) const;

  /// Throws ClosedPipe, or Error(kFailed).
  void write(const std::string& line);

  /// Takes the place of the file at `path`; what is written later goes there.
  void replace(const std::string& path);

 private:
  [[noreturn]] void fail(lapidary::ErrorCode code, const char* what, int error) const;
  void open();
  void recover();
  void take_line(const std::string& line, bool whole, bool too_long);

  std::string path_;
  mode_t mode_;
  int file_ = -1;
  std::vector<AnswerRecord> records_;
  std::vector<std::uint64_t> offsets_{0};  // Where each record's line begins, and the end.
};

}  // namespace cli
