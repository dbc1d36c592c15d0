#pragma once

#include <cstdint>
#include <string>

namespace cli {

/// Requests, a line each; lines of white space are none. A byte order mark at the beginning and
/// `\r` at the end of a line are not part of it.
class RequestFile {
 public:
  /// A longer line is no request: it is skipped, and answered by an error.
  static constexpr std::uint64_t kMostLineBytes = std::uint64_t{64} << 20;

  /// "-" is standard input. Throws Error(kFile).
  explicit RequestFile(const std::string& path);
  ~RequestFile();
  RequestFile(const RequestFile&) = delete;
  RequestFile& operator=(const RequestFile&) = delete;

  /// The next request; false at the end. Throws Error(kFile) for a file that cannot be read, and
  /// for one without a line's end in 4 GiB.
  bool next(std::string& line);

  bool too_long() const { return too_long_; }     ///< The last line, whose text is empty then.
  int number() const { return number_; }          ///< Of the last line, from 1.
  std::uint64_t read() const { return read_; }    ///< Bytes, up to the end of the last line.
  std::uint64_t bytes() const { return bytes_; }  ///< Of the whole file; 0: not known.

 private:
  bool next_line(std::string& line);
  bool fill();

  std::string path_;
  int file_ = -1;
  std::string buffer_;
  std::size_t at_ = 0;  // Of buffer_, what comes next.
  int number_ = 0;
  bool too_long_ = false;
  std::uint64_t read_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace cli
