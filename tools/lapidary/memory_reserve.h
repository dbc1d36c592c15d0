#pragma once

#include <cstddef>

namespace cli {

/// Memory that is given back when operator new finds none, just before that throws, or when this
/// goes out of scope: for the destructors of JSON values, which take memory themselves and cannot
/// fail. So it stands behind the value that it is for. One at a time in the process.
class MemoryReserve {
 public:
  /// Throws std::bad_alloc where there is not that much.
  explicit MemoryReserve(std::size_t bytes);
  ~MemoryReserve();
  MemoryReserve(const MemoryReserve&) = delete;
  MemoryReserve& operator=(const MemoryReserve&) = delete;
};

}  // namespace cli
