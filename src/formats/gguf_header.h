#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "formats/weight_source.h"

namespace lapidary {

/// Types of metadata values; the numbers are GGUF's.
enum class GgufType : std::uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

/// "uint32", …; "unknown" for a number that is no type.
std::string_view gguf_type_name(GgufType type);

/// The start of a file up to its data, as far as it was asked for. Grows with what is read, never
/// by what a file claims: everything is checked against the file's size first.
class HeaderBytes {
 public:
  explicit HeaderBytes(const File& file) : file_(file) {}
  ~HeaderBytes();
  HeaderBytes(const HeaderBytes&) = delete;
  HeaderBytes& operator=(const HeaderBytes&) = delete;

  /// Bytes between `offset` and the file's end.
  std::uint64_t left_from(std::uint64_t offset) const;

  /// Makes [0, end) available at data(), which may move. Throws Error(kFile) beyond the file or
  /// beyond what a header may take.
  void need(std::uint64_t end);

  const std::byte* data() const { return data_; }

 private:
  const File& file_;
  std::byte* data_ = nullptr;  // From take_pages().
  std::size_t capacity_ = 0;
  std::size_t filled_ = 0;
};

/// One metadata value: where its bytes lie in the header. Arrays stay as they are until someone
/// asks.
struct GgufValue {
  GgufType type = GgufType::kUint32;  // Of the value, or of an array's elements.
  bool is_array = false;
  std::uint64_t count = 1;
  std::uint64_t offset = 0;  // Of the first element.
  std::uint64_t bytes = 0;   // Of all elements.
};

struct GgufHeader {
  std::map<std::string, GgufValue, std::less<>> values;
  std::vector<TensorInfo> tensors;
  std::vector<std::uint64_t> offsets;  // [tensors], from the start of the file; checked against its
                                       // size and each other.

  std::uint64_t offset_of(const TensorInfo& tensor) const {
    return offsets[static_cast<std::size_t>(&tensor - tensors.data())];
  }
};

/// Reads and checks the whole header of `file` into `bytes`. Throws Error(kFile) that names the
/// path and the key or tensor.
GgufHeader parse_gguf_header(const File& file, HeaderBytes& bytes);

/// `text` in quotes, on one line: bytes that are not printable ASCII escaped, cut where it is long.
std::string quoted(std::string_view text);

}  // namespace lapidary
