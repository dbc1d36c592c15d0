#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/gguf_parts.h"
#include "formats/weight_source.h"

namespace lapidary {

/// A GGUF file, version 2 or 3, in its own words, or the several files of one model. Immutable;
/// safe to read from several threads.
class GgufFile {
 public:
  /// Reads the header; of the first of several parts, those of the others as well
  /// (open_gguf_parts). Every length is checked against the bytes that remain before anything is
  /// allocated. Throws Error(kFile) with one line that names the path and the key or tensor.
  /// `layers`: what the names of tensors begin with that are of layers.
  explicit GgufFile(const std::string& path, std::string_view layers = {});

  /// Of the file, or of the first part, which has the keys.
  const std::string& path() const { return first().file.path(); }
  /// Of the file that has `tensor`, which is one of tensors().
  const std::string& path_of(const TensorInfo& tensor) const {
    return place_of(tensor).file->path();
  }
  std::vector<std::string> paths() const;
  /// Of all parts.
  std::uint64_t file_bytes() const;

  // As WeightSource has them.
  const TensorInfo* find(std::string_view name) const;
  std::span<const TensorInfo> tensors() const { return tensors_; }
  void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const;
  std::optional<std::uint64_t> find_uint(std::string_view key) const;
  std::optional<double> find_float(std::string_view key) const;
  std::optional<std::string> find_string(std::string_view key) const;
  std::optional<PagedVector<std::string>> find_strings(std::string_view key) const;
  std::optional<PagedVector<double>> find_floats(std::string_view key) const;
  std::optional<PagedVector<std::int64_t>> find_ints(std::string_view key) const;
  std::optional<ArraySize> array_size(std::string_view key) const;
  bool has(std::string_view key) const { return find_value(key) != nullptr; }

  /// Every key with its value in one printable line, long ones cut, and every tensor: for people.
  FileInfo list() const;

 private:
  [[noreturn]] void fail(const std::string& message) const;
  [[noreturn]] void fail_type(std::string_view key, const GgufValue& value,
                              const char* expected) const;
  const GgufValue* find_value(std::string_view key) const;

  /// The string at `offset`, which is moved behind it. The parser has checked all lengths.
  std::string_view take_string(std::uint64_t& offset) const;
  std::string line_of(const GgufValue& value) const;

  /// Where a tensor's bytes lie.
  struct Place {
    const File* file;
    std::uint64_t offset;
  };
  const GgufPart& first() const { return *parts_.front(); }
  const Place& place_of(const TensorInfo& tensor) const {
    return places_[static_cast<std::size_t>(&tensor - tensors_.data())];
  }

  std::vector<std::unique_ptr<GgufPart>> parts_;  // At least one.
  std::vector<TensorInfo> tensors_;               // Of all parts, which have them no more.
  std::vector<Place> places_;                     // [tensors_]
  std::unordered_map<std::string_view, const TensorInfo*> index_;
};

/// The source that a GGUF file is; see open_source().
std::unique_ptr<WeightSource> open_gguf(const std::string& path, Content content);

/// Files beside `model_path` that are called like vision files; see vision_paths().
std::vector<std::string> gguf_vision_paths(const std::string& model_path);

}  // namespace lapidary
