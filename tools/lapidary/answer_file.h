#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "batch_answer.h"
#include "line_reader.h"

namespace cli {

/// The file of a batch's answers, one line a request, which this process alone may write. Opening
/// it passes over what is there and cuts a last line that a kill left unfinished. A file that holds
/// anything but answers is left as it is: Error(kFile). Of what is there only its number is kept.
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

  std::uint64_t count() const { return count_; }    ///< Lines that were there.
  std::uint64_t failed() const { return failed_; }  ///< Of those, errors.

  /// Lets next() begin with the first line that was there. Nothing may be written while they are
  /// read.
  void rewind();

  /// The next line that was there; false behind the last. Throws as LineReader::next().
  bool next();
  const AnswerRecord& record() const { return record_; }  ///< What it answers.
  const std::string& line() const { return line_; }       ///< The line, with its newline.

  /// One write(2) where the file takes it whole. Throws ClosedPipe, Error(kFailed), and
  /// Error(kInterrupted) where a pipe takes nothing when `interrupted` is set.
  void write(const std::string& line);

  /// Takes the place of the file at `path`; what is written later goes there.
  void replace(const std::string& path);

 private:
  [[noreturn]] void fail(lapidary::ErrorCode code, const char* what, int error) const;
  void open();
  void recover();
  bool take_line(const std::string& line, bool whole, bool too_long);
  void wait_for_room() const;

  std::string path_;
  mode_t mode_;
  int file_ = -1;
  bool regular_ = false;
  std::uint64_t count_ = 0;
  std::uint64_t failed_ = 0;
  std::optional<LineReader> lines_;
  std::uint64_t at_ = 0;  // Lines that next() has given.
  std::string line_;
  AnswerRecord record_;
};

}  // namespace cli
