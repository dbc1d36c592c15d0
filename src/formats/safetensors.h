#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "formats/blocks.h"

namespace lapidary {

/// One tensor of a safetensors file. Values lie row after row, little-endian.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;                 // As the file says it: "BF16", "I64", …
  std::optional<BlockType> type;     // None: one that holds no weights.
  std::vector<std::uint64_t> shape;  // The contiguous dimension first: reversed.
  std::uint64_t offset = 0;          // From the start of the file.
  std::uint64_t bytes = 0;
  bool ends_file = false;  // No other tensor lies behind it.
};

/// A safetensors file in its own words. Immutable; safe to read from several threads.
///
/// 8 bytes are the length of a JSON text, which names the tensors, their types, shapes and places
/// behind it. Places may leave holes and bytes behind the last one, as files that others write have
/// them, but not share a byte.
class SafetensorsFile {
 public:
  /// Reads and checks the header. Throws Error(kFile): one line that names the file and the tensor.
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  std::uint64_t file_bytes() const { return file_.size(); }
  std::span<const SafetensorsEntry> entries() const { return entries_; }

  /// Bytes [offset, offset + out.size()) of `entry`, one of entries(). Throws Error(kFile), naming
  /// it, when the file has become shorter or cannot be read.
  void read(const SafetensorsEntry& entry, std::uint64_t offset, std::span<std::byte> out) const;

  /// "FILE: tensor NAME", for messages.
  std::string where(const SafetensorsEntry& entry) const;

 private:
  File file_;
  std::vector<SafetensorsEntry> entries_;  // In the order of their places.
};

}  // namespace lapidary
