#pragma once

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

/// SHA-256 of a whole file. Throws Error(kFile).
Digest hash_file(const std::string& path);

}  // namespace lapidary
