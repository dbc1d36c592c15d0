#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/paged.h"
#include "formats/json.h"

namespace lapidary {

/// A folder in the layout that Hugging Face publishes models in: config.json, safetensors files,
/// and the files of a tokenizer. Says where its files are and refuses names and links that lead out
/// of it. Immutable; safe to use from several threads.
class HfFolder {
 public:
  /// Throws Error(kFile) when `path` is no folder that can be read.
  explicit HfFolder(std::string path);

  const std::string& path() const { return path_; }

  /// What people call the model: the folder's name, or in a cache, where that is a revision, the
  /// name of the repository.
  std::string model_name() const;

  /// The path of the file `name` in the folder, or nothing where there is none. Throws Error(kFile)
  /// for a name that is more than a file's, and for a link that leads out of the folder; links of a
  /// cache, from snapshots/REVISION/FILE to ../../blobs/HASH, stay within it
  /// (docs/decisions/0030-folders.md).
  std::optional<std::string> find(std::string_view name) const;

  /// The same; throws Error(kFile) where there is none.
  std::string require(std::string_view name) const;

  /// The whole of `name`, at most `most` bytes; nothing where there is no such file.
  std::optional<PagedString> read(std::string_view name, std::uint64_t most) const;

  /// The object in `name`; nothing where there is no such file.
  std::optional<Json> read_object(std::string_view name) const;

  /// The files that hold the tensors: those that model.safetensors.index.json names, else every
  /// model*.safetensors. Throws Error(kFile) where there are none.
  struct Shards {
    std::vector<std::string> names;
    Json weight_map;  // The index's: which tensor lies in which file; null without one.
  };
  Shards shards() const;

 private:
  std::string path_;
};

/// The name of the index of several safetensors files.
inline constexpr std::string_view kIndexName = "model.safetensors.index.json";

}  // namespace lapidary
