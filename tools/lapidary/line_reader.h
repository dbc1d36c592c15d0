#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace cli {

/// What asking for a line that may not have come yet gives.
enum class Next {
  kLine,    ///< It is there.
  kEnd,     ///< There is none any more.
  kNotYet,  ///< The pipe or terminal has not all of it yet.
};

/// Lines of a file that may be endless, or have no lines: no more than most_bytes() are held.
class LineReader {
 public:
  static constexpr std::uint64_t kMostBytes = std::uint64_t{64} << 20;

  /// Reads `file` from where it stands and does not close it; `name` stands in messages.
  LineReader(int file, std::string name);

  /// The next line without its newline; false at the end. Throws Error(kFile) when the file cannot
  /// be read or has no line's end in 4 GiB, Error(kInterrupted) when `interrupted` is set.
  bool next(std::string& line);

  /// The same without waiting for what has not come: what has of a line is kept for the next call.
  Next poll(std::string& line);

  /// Waits until there may be more for poll(), or some time has passed. Throws as next().
  void wait() const;

  /// From the next line on; at most kMostBytes.
  void set_most_bytes(std::uint64_t most) { most_ = most; }
  std::uint64_t most_bytes() const { return most_; }

  bool too_long() const { return too_long_; }    ///< The last line had more, and is empty here.
  bool no_memory() const { return no_memory_; }  ///< There was none to hold it; it is empty here.
  bool whole() const { return whole_; }          ///< It ended in a newline.
  int number() const { return number_; }         ///< Of the last line, from 1.
  std::uint64_t read() const { return read_; }   ///< Bytes, up to the end of the last line.

 private:
  bool ready(int milliseconds) const;
  bool fill();
  void begin();
  void append(std::string_view more);
  void take(std::string_view more);

  int file_;
  std::string name_;
  std::string buffer_;
  std::string line_;        // As far as it has come,
  std::uint64_t size_ = 0;  // and how long that is, kept or not.
  bool open_ = false;       // Some of it has been asked for.
  std::uint64_t most_ = kMostBytes;
  std::size_t at_ = 0;  // Of buffer_, what comes next.
  int number_ = 0;
  bool too_long_ = false;
  bool no_memory_ = false;
  bool whole_ = false;
  std::uint64_t read_ = 0;
};

}  // namespace cli
