#pragma once

#include <atomic>
#include <string>

#include "lapidary/error.h"

namespace lapidary {

/// Whether the host has set `cancel`; nullptr: it cannot.
inline bool is_set(const std::atomic<bool>* cancel) {
  return cancel != nullptr && cancel->load(std::memory_order_relaxed);
}

/// Throws Error(kInterrupted) when `cancel` is set: "interrupted while DOING".
inline void check_cancel(const std::atomic<bool>* cancel, const char* doing) {
  if (is_set(cancel))
    throw Error(ErrorCode::kInterrupted, std::string("interrupted while ") + doing);
}

}  // namespace lapidary
