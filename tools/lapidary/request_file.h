#pragma once

#include <cstdint>
#include <string>

#include "line_reader.h"

namespace cli {

/// Requests, a line each; lines of white space are none. A byte order mark at the beginning and
/// `\r` at the end of a line are not part of it.
class RequestFile {
 public:
  /// "-" is standard input. Throws Error(kFile).
  explicit RequestFile(const std::string& path);
  ~RequestFile();
  RequestFile(const RequestFile&) = delete;
  RequestFile& operator=(const RequestFile&) = delete;

  /// The next request; false at the end. Throws as LineReader::next().
  bool next(std::string& line);

  /// See LineReader.
  Next poll(std::string& line);
  void wait() const { lines_.wait(); }

  /// See LineReader.
  void set_most_bytes(std::uint64_t most) { lines_.set_most_bytes(most); }
  std::uint64_t most_bytes() const { return lines_.most_bytes(); }

  bool too_long() const { return lines_.too_long(); }    ///< The last line: no request.
  bool no_memory() const { return lines_.no_memory(); }  ///< To read it.
  int number() const { return lines_.number(); }         ///< Of the last line, from 1.
  std::uint64_t read() const { return lines_.read(); }   ///< Bytes, up to the end of the last line.
  std::uint64_t bytes() const { return bytes_; }         ///< Of the whole file; 0: not known.

 private:
  int file_;
  LineReader lines_;
  std::uint64_t bytes_ = 0;
};

}  // namespace cli
