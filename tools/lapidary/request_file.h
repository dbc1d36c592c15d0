#pragma once

#include <cstdint>
#include <string>

#include "line_reader.h"
#include "shard.h"

namespace cli {

/// Which requests of a file are to be answered, and what their numbers are.
struct RequestShare {
  Shard shard;
  /// In front of each request stands a line with two numbers, from a program that deals out the
  /// lines of a file: number() and place() of the request in that file. Behind them a line of white
  /// space is a request, too.
  bool numbered = false;
};

/// Requests, a line each; lines of white space are none. A byte order mark at the beginning and
/// `\r` at the end of a line are not part of it.
class RequestFile {
 public:
  /// "-" is standard input. Throws Error(kFile).
  explicit RequestFile(const std::string& path, const RequestShare& share = {});
  ~RequestFile();
  RequestFile(const RequestFile&) = delete;
  RequestFile& operator=(const RequestFile&) = delete;

  /// The next request of the share; false at the end. Throws as LineReader::next(), and
  /// Error(kFile) where numbers are expected and something else is found.
  bool next(std::string& line);

  /// See LineReader. Throws as next().
  Next poll(std::string& line);
  void wait() const { lines_.wait(); }

  /// See LineReader.
  void set_most_bytes(std::uint64_t most) { lines_.set_most_bytes(most); }
  std::uint64_t most_bytes() const { return lines_.most_bytes(); }

  bool too_long() const { return lines_.too_long(); }    ///< The last line: no request.
  bool no_memory() const { return lines_.no_memory(); }  ///< To read it.
  int number() const { return number_; }                 ///< Of the last line, from 1.
  std::uint64_t place() const { return place_; }         ///< Among all requests, from 0.
  std::uint64_t read() const { return lines_.read(); }   ///< Bytes, up to the end of the last line.
  std::uint64_t bytes() const { return bytes_; }         ///< Of the whole file; 0: not known.

 private:
  Next poll_line(std::string& line);
  void take_numbers(const std::string& line);

  int file_;
  std::string name_;
  LineReader lines_;
  RequestShare share_;
  std::uint64_t bytes_ = 0;
  int number_ = 0;
  std::uint64_t place_ = 0;
  std::uint64_t met_ = 0;   // Requests, those of other shards too.
  bool announced_ = false;  // Numbers were read whose request has not come yet.
};

}  // namespace cli
