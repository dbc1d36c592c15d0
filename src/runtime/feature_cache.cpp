#include "runtime/feature_cache.h"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/format.h"
#include "lapidary/error.h"
#include "runtime/digest.h"

namespace lapidary {
namespace {

namespace fs = std::filesystem;

/// What stands in front of the values in a cache file. Numbers are in the machine's own order: from
/// a machine of the other one the first is not what it must be.
struct FileHeader {
  std::uint64_t magic = 0x4C41504946454131;  // "LAPIFEA1"
  Digest key{};
  Digest checksum{};  // Of the values.
  std::int32_t tokens = 0;
  std::int32_t width = 0;
};

std::uint64_t value_bytes(const ImageFeatures& features) {
  return features.values->size() * sizeof(float);
}

Digest checksum(const ImageFeatures& features) {
  return Hasher().bytes(std::as_bytes(std::span(*features.values))).finish();
}

std::optional<ImageFeatures> read_features(const std::string& path, const Digest& key) {
  std::error_code missing;
  if (!fs::is_regular_file(path, missing)) return {};
  try {
    const File file(path);
    FileHeader header;
    file.read(0, std::as_writable_bytes(std::span(&header, 1)));
    if (header.magic != FileHeader().magic || header.key != key || header.tokens < 1 ||
        header.width < 1)
      return {};
    const std::uint64_t count =
        static_cast<std::uint64_t>(header.tokens) * static_cast<std::uint64_t>(header.width);
    if (file.size() != sizeof header + count * sizeof(float)) return {};
    auto values = std::make_shared<std::vector<float>>(static_cast<std::size_t>(count));
    file.read(sizeof header, std::as_writable_bytes(std::span(*values)));
    ImageFeatures features{header.tokens, header.width, std::move(values)};
    if (checksum(features) != header.checksum) return {};
    return features;
  } catch (const Error&) {
    return {};  // Gone or cut meanwhile.
  }
}

bool write_all(std::FILE* file, std::span<const std::byte> bytes) {
  return std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
}

/// Under another name first: whoever looks at `path` finds all of it or nothing.
void write_features(const std::string& path, const Digest& key, const ImageFeatures& features) {
  static std::atomic<unsigned> counter{0};
  const std::string partial = format("{}.{}.{}.partial", path, ::getpid(), counter++);
  const FileHeader header{.key = key,
                          .checksum = checksum(features),
                          .tokens = features.tokens,
                          .width = features.width};
  // From here on nothing throws.
  std::FILE* file = std::fopen(partial.c_str(), "wbxe");
  if (file == nullptr) return;
  bool whole = write_all(file, std::as_bytes(std::span(&header, 1))) &&
               write_all(file, std::as_bytes(std::span(*features.values)));
  whole = std::fclose(file) == 0 && whole;
  if (whole && std::rename(partial.c_str(), path.c_str()) == 0) return;
  std::remove(partial.c_str());
}

}  // namespace

FeatureCache::FeatureCache(std::uint64_t memory_bytes, std::string folder)
    : limit_(memory_bytes), folder_(std::move(folder)) {
  if (folder_.empty()) return;
  std::error_code error;
  fs::create_directories(folder_, error);
  if (!fs::is_directory(folder_, error)) {
    throw Error(ErrorCode::kFile,
                "the image cache " + folder_ + " is no folder and cannot be made");
  }
}

std::string FeatureCache::file_name(const Digest& key) const {
  std::string name;
  for (const std::uint8_t byte : key) {
    constexpr char kHex[] = "0123456789abcdef";
    name += kHex[byte >> 4U];
    name += kHex[byte & 15U];
  }
  return (fs::path(folder_) / (name + ".features")).string();
}

std::optional<ImageFeatures> FeatureCache::find(const Digest& key) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = index_.find(key);
    if (found != index_.end()) {
      entries_.splice(entries_.begin(), entries_, found->second);
      return found->second->features;
    }
  }
  if (folder_.empty()) return {};
  std::optional<ImageFeatures> features = read_features(file_name(key), key);
  if (features) remember(key, *features);
  return features;
}

void FeatureCache::insert(const Digest& key, const ImageFeatures& features) {
  remember(key, features);
  if (!folder_.empty()) write_features(file_name(key), key, features);
}

void FeatureCache::remember(const Digest& key, const ImageFeatures& features) {
  const std::lock_guard lock(mutex_);
  if (value_bytes(features) > limit_ || index_.contains(key)) return;
  entries_.push_front({key, features});
  try {
    index_.emplace(key, entries_.begin());
  } catch (...) {
    entries_.pop_front();
    throw;
  }
  bytes_ += value_bytes(features);
  while (bytes_ > limit_) {
    bytes_ -= value_bytes(entries_.back().features);
    index_.erase(entries_.back().key);
    entries_.pop_back();
  }
}

}  // namespace lapidary
