#pragma once

#include <cstdint>
#include <string>

#include "base/memory.h"
#include "lapidary/error.h"

namespace lapidary {

/// Throws Error(kMemory) with both numbers when `held + needed` bytes exceed `limit`, or, without a
/// limit (0), when `needed` exceeds what the machine has available. `held` are bytes that the
/// process took already and that the limit covers.
inline void check_budget(const std::string& what, std::uint64_t held, std::uint64_t needed,
                         std::uint64_t limit) {
  if (limit == 0) {
    const std::uint64_t available = available_memory();
    if (needed <= available) return;
    throw Error(ErrorCode::kMemory, what + " needs " + format_bytes(needed) +
                                        ", but the machine has " + format_bytes(available) +
                                        " available");
  }
  if (held <= limit && needed <= limit - held) return;
  const std::string beside = held == 0 ? "" : " beside " + format_bytes(held) + " that are taken";
  throw Error(ErrorCode::kMemory, what + " needs " + format_bytes(needed) + beside +
                                      ", but the memory limit is " + format_bytes(limit));
}

}  // namespace lapidary
