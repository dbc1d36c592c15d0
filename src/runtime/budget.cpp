#include "runtime/budget.h"

#include "base/format.h"
#include "base/memory.h"
#include "lapidary/error.h"

namespace lapidary {

void check_budget(const std::string& what, std::uint64_t held, std::uint64_t needed,
                  std::uint64_t limit) {
  if (limit == 0) {
    const std::uint64_t available = available_memory();
    if (needed <= available) return;
    throw Error(ErrorCode::kMemory, format("{} needs {}, but the machine has {} available", what,
                                           format_bytes(needed), format_bytes(available)));
  }
  if (held <= limit && needed <= limit - held) return;
  const std::string beside =
      held == 0 ? "" : format(" beside {} that are taken", format_bytes(held));
  throw Error(ErrorCode::kMemory, format("{} needs {}{}, but the memory limit is {}", what,
                                         format_bytes(needed), beside, format_bytes(limit)));
}

}  // namespace lapidary
