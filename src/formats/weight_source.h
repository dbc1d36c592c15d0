#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/paged.h"
#include "formats/blocks.h"

namespace lapidary {

/// One tensor as a file describes it. `shape[0]` is the contiguous dimension (columns, the k of a
/// matrix), `shape[1]` the rows.
struct TensorInfo {
  std::string name;
  BlockType type;
  std::vector<std::uint64_t> shape;
  std::uint64_t offset = 0;  // From the start of the file.
  std::uint64_t bytes = 0;

  std::uint64_t columns() const { return shape.empty() ? 1 : shape[0]; }
  std::uint64_t rows() const;  // Product of all dimensions but the first.
};

struct ArraySize {
  std::uint64_t count = 0;  // Elements.
  std::uint64_t bytes = 0;  // Of all elements, as the file has them.
};

/// Named tensors and metadata of a model, whatever files it lies in. Immutable; safe to read from
/// several threads.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  /// The tensor called `name`, or nullptr.
  virtual const TensorInfo* find(std::string_view name) const = 0;
  virtual std::span<const TensorInfo> tensors() const = 0;

  /// Copies bytes [offset, offset + out.size()) of `tensor` into `out`. Throws Error(kFile), naming
  /// the tensor, when the file has become shorter or cannot be read.
  virtual void read(const TensorInfo& tensor, std::uint64_t offset,
                    std::span<std::byte> out) const = 0;

  // Metadata. Absent: nullopt (or empty). Present with another type, or out of the type's range:
  // Error(kFile) naming the key.
  virtual std::optional<std::uint64_t> find_uint(std::string_view key) const = 0;
  virtual std::optional<double> find_float(std::string_view key) const = 0;
  virtual std::optional<bool> find_bool(std::string_view key) const = 0;
  virtual std::optional<std::string> find_string(std::string_view key) const = 0;  // Up to 1 MiB.
  virtual std::optional<PagedVector<std::string>> find_strings(std::string_view key) const = 0;
  virtual std::optional<PagedVector<double>> find_floats(
      std::string_view key) const = 0;  // Any float array.
  virtual std::optional<PagedVector<std::int64_t>> find_ints(
      std::string_view key) const = 0;  // Any int or bool array.

  /// What the array at `key` has in the file; nothing where there is no array. To be looked at
  /// before the array is read: one byte of a file may become eight in memory.
  virtual std::optional<ArraySize> array_size(std::string_view /*key*/) const { return {}; }

  /// Every key with its value in one printable line, long ones cut: for people.
  virtual std::vector<std::pair<std::string, std::string>> describe() const { return {}; }

  /// The path, for messages.
  virtual const std::string& path() const = 0;
  virtual std::uint64_t file_bytes() const = 0;
};

/// The number at `key`, or `fallback` where there is none. Throws Error(kFile) naming the key when
/// it is not within [low, high], which must leave out what is 0 or infinite once it is a float.
float read_float(const WeightSource& source, const std::string& key, double low, double high,
                 float fallback);

/// One line that names the tensors of `source` that are not among those `used`; empty where there
/// are none. Throws Error(kFile) when one of them has a name that begins with `layers`: without it
/// a layer would compute something else.
std::string describe_unused(const WeightSource& source, std::span<const TensorInfo* const> used,
                            std::string_view layers);

/// Opens a GGUF file, version 2 or 3. Every length is checked against the bytes that remain before
/// anything is allocated. Throws Error(kFile) with one line that names the path and the key or
/// tensor.
std::unique_ptr<WeightSource> open_gguf(const std::string& path);

/// The exact fp32 values of `rows` × `columns` values of `type` in `bytes` (row after row as in a
/// file); `out` holds rows × columns. The plain reference: one block at a time, scalar. `bytes`
/// must have the right size.
void dequantize(BlockType type, std::span<const std::byte> bytes, std::span<float> out);

}  // namespace lapidary
