#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "json.h"

namespace cli {

/// Stands for an id, a string or a number; two ids have the same one by a chance of 2^-64.
std::uint64_t id_key(const Json& id);

/// On which line each id stands first, in at most 30 bytes an id, however long it is.
class IdLines {
 public:
  /// The line that `key` was given with first: `line`, when it is new.
  std::uint32_t first(std::uint64_t key, std::uint32_t line);

 private:
  std::size_t find(std::uint64_t key) const;
  void grow();

  // A table with open addressing; no line: a free place.
  std::vector<std::uint64_t> keys_;
  std::vector<std::uint32_t> lines_;
  std::size_t count_ = 0;
};

}  // namespace cli
