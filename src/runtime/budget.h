#pragma once

#include <cstdint>
#include <string>

namespace lapidary {

/// Throws Error(kMemory) with both numbers when `held + needed` bytes exceed `limit`, or, without a
/// limit (0), when `needed` exceeds what the machine has available. `held` are bytes that the
/// process took already and that the limit covers.
void check_budget(const std::string& what, std::uint64_t held, std::uint64_t needed,
                  std::uint64_t limit);

}  // namespace lapidary
