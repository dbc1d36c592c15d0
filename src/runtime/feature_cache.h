#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "lapidary/image_encoder.h"

namespace lapidary {

/// A SHA-256.
using Digest = std::array<std::uint8_t, 32>;

/// Features of pictures that were encoded before, by what they depend on. In memory, the longest
/// unused dropped first; and in a folder that any number of processes share: a file appears whole
/// or not at all, and one that is damaged counts as absent. Safe to use from several threads.
class FeatureCache {
 public:
  /// `folder` may be empty: memory only. It is made if it is not there; throws Error(kFile) when
  /// that fails.
  FeatureCache(std::uint64_t memory_bytes, std::string folder);

  std::optional<ImageFeatures> find(const Digest& key);

  /// Never throws for a folder that cannot be written: the cache is a help, not a promise.
  void insert(const Digest& key, const ImageFeatures& features);

  const std::string& folder() const { return folder_; }

 private:
  struct Entry {
    Digest key;
    ImageFeatures features;
  };

  void remember(const Digest& key, const ImageFeatures& features);
  std::string file_name(const Digest& key) const;

  const std::uint64_t limit_;
  const std::string folder_;
  std::mutex mutex_;  // Of what follows.
  std::uint64_t bytes_ = 0;
  std::list<Entry> entries_;  // Last used first.
  std::map<Digest, std::list<Entry>::iterator> index_;
};

}  // namespace lapidary
