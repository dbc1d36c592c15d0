#include "formats/hf_folder.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "base/file.h"
#include "base/format.h"
#include "base/printable.h"
#include "lapidary/error.h"

namespace lapidary {
namespace {

namespace fs = std::filesystem;

// Of any text beside the weights: a tokenizer's settings have 1.2 MB.
constexpr std::uint64_t kMaxTextBytes = std::uint64_t{16} << 20;
constexpr std::size_t kMaxShards = 512;

[[noreturn]] void fail(const std::string& where, const std::string& what) {
  throw Error(ErrorCode::kFile, where + ": " + what);
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

/// Whether a link from `folder` may lead to `target`; both without links.
bool stays_inside(const fs::path& folder, const fs::path& target) {
  const fs::path parent = target.parent_path();
  if (parent == folder) return true;
  const fs::path snapshots = folder.parent_path();
  return snapshots.filename() == "snapshots" && parent == snapshots.parent_path() / "blobs";
}

}  // namespace

HfFolder::HfFolder(std::string path) : path_(std::move(path)) {
  std::error_code error;
  const fs::directory_iterator readable(path_, error);
  if (error) fail(path_, "cannot be read: " + error.message());
  while (path_.size() > 1 && path_.ends_with('/')) path_.pop_back();
}

std::string HfFolder::model_name() const {
  std::error_code error;
  const fs::path folder = fs::canonical(path_, error);
  if (error) return {};
  const fs::path snapshots = folder.parent_path();
  if (snapshots.filename() != "snapshots") return folder.filename().string();
  // models--OWNER--NAME
  std::string name = snapshots.parent_path().filename().string();
  if (name.starts_with("models--")) name.erase(0, 8);
  if (const std::size_t at = name.find("--"); at != std::string::npos) name.replace(at, 2, "/");
  return name;
}

std::optional<std::string> HfFolder::find(std::string_view name) const {
  if (!is_plain_name(name)) {
    fail(path_, "\"" + printable_value(name) + "\" is no name of a file in this folder");
  }
  std::string path = path_ + "/" + std::string(name);
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (status.type() == fs::file_type::not_found) return {};
  if (status.type() != fs::file_type::symlink) return path;
  const fs::path target = fs::canonical(path, error);
  if (error) fail(path, "is a link to what is not there");
  const fs::path folder = fs::canonical(path_, error);
  if (error || !stays_inside(folder, target)) fail(path, "is a link that leads out of the folder");
  return path;
}

std::string HfFolder::require(std::string_view name) const {
  std::optional<std::string> found = find(name);
  if (!found) fail(path_, "has no " + printable_value(name));
  return *std::move(found);
}

std::optional<PagedString> HfFolder::read(std::string_view name, std::uint64_t most) const {
  const std::optional<std::string> path = find(name);
  if (!path) return {};
  const File file(*path);
  if (file.size() > most)
    fail(*path, format("has {} bytes, expected at most {}", file.size(), most));
  PagedString text(static_cast<std::size_t>(file.size()), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

std::optional<Json> HfFolder::read_object(std::string_view name) const {
  const std::optional<PagedString> text = read(name, kMaxTextBytes);
  if (!text) return {};
  const std::string where = path_ + "/" + std::string(name);
  Json value = parse_json(*text, where);
  if (!value.is_object()) fail(where, format("holds {}, expected an object", kind_of(value)));
  return value;
}

HfFolder::Shards HfFolder::shards() const {
  std::set<std::string> names;
  Shards shards;
  if (std::optional<Json> index = read_object(kIndexName)) {
    const std::string where = path_ + "/" + std::string(kIndexName);
    const auto map = index->find("weight_map");
    if (map == index->end()) fail(where, "key weight_map is missing");
    if (!map->is_object())
      fail(where, format("key weight_map is {}, expected an object", kind_of(*map)));
    if (map->empty()) fail(where, "key weight_map is empty");
    for (const auto& [tensor, file] : map->items()) {
      const auto* const name = file.get_ptr<const std::string*>();
      if (name == nullptr) {
        fail(where, format("tensor {} lies in {}, expected the name of a file",
                           printable_value(tensor), kind_of(file)));
      }
      if (!is_plain_name(*name)) {
        fail(where, format("tensor {} lies in \"{}\", expected the name of a file in this folder",
                           printable_value(tensor), printable_value(*name)));
      }
      names.insert(*name);
    }
    shards.weight_map = std::move(*map);
  } else {
    std::error_code error;
    for (fs::directory_iterator entry(path_, error), end; !error && entry != end;
         entry.increment(error)) {
      std::string name = entry->path().filename().string();
      if (name.starts_with("model") && name.ends_with(".safetensors"))
        names.insert(std::move(name));
    }
    if (names.empty() && find("pytorch_model.bin"))
      fail(path_, "has pytorch_model.bin, which is not read; save the model as safetensors");
    if (names.empty()) fail(path_, "has no model.safetensors");
  }
  if (names.size() > kMaxShards) {
    fail(path_, format("{} safetensors files, expected at most {}", names.size(), kMaxShards));
  }
  shards.names.assign(names.begin(), names.end());
  return shards;
}

}  // namespace lapidary
