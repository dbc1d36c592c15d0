#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kernels/sha256.h"
#include "runtime/feature_cache.h"

namespace lapidary {

/// SHA-256 of everything added, in order.
class Hasher {
 public:
  Hasher& bytes(std::span<const std::byte> data);
  Hasher& number(std::int64_t value);
  Hasher& text(std::string_view value);  // With its length: "ab", "c" is not "a", "bc".
  Hasher& digest(const Digest& value);

  /// Once, at the end.
  Digest finish();

 private:
  kernels::Sha256 sha_;
};

/// SHA-256 of a whole file. Throws Error(kFile), Error(kInterrupted) once `cancel` is set.
Digest hash_file(const std::string& path, const std::atomic<bool>* cancel = nullptr);

}  // namespace lapidary
