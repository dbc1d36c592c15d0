#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace lapidary {

/// What the header of a file says, as it says it. All text is the file's: it may hold any bytes.
struct FileInfo {
  struct Entry {
    std::string key;
    std::string type;  ///< "uint32", "string", …; of an array, that of its elements.
    bool is_array = false;
    std::uint64_t count = 1;          ///< Elements of an array.
    std::vector<std::string> values;  ///< As text; of an array, the first ones.
  };
  struct Tensor {
    std::string name;
    std::string type;                  ///< "Q4_K", "F32", …
    std::vector<std::uint64_t> shape;  ///< The contiguous dimension first.
    std::uint64_t bytes = 0;
    std::uint64_t offset = 0;  ///< From the start of the file.
  };

  std::string path;
  std::string format;  ///< "GGUF 3".
  std::uint64_t file_bytes = 0;
  bool vision = false;          ///< The vision half of a model: for inspect_vision().
  std::vector<Entry> metadata;  ///< By key.
  std::vector<Tensor> tensors;  ///< In the file's order.
};

/// Reads the header of `path`, whatever model it holds; of arrays, the first `elements`, at
/// least one. Throws
/// Error(kFile) where it is damaged or in no format that is read.
FileInfo inspect_file(const std::string& path, std::size_t elements = 8);

}  // namespace lapidary
