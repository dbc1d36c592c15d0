#pragma once

// What this process has in memory, as Linux says it.

#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

#include "base/paged.h"

namespace lapidary::test {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#elif defined(__has_feature)
inline constexpr bool kSanitized =
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
inline constexpr bool kSanitized = false;
#endif

/// A field of /proc/self/status in bytes; 0 where there is none.
inline std::uint64_t status_bytes(const std::string& name) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string word;
    std::uint64_t kibibytes = 0;
    if (fields >> word >> kibibytes && word == name + ":") return kibibytes * 1024;
  }
  return 0;
}

/// What the process took at most since this was made, beyond what it had then.
class Peak {
 public:
  Peak() {
    trim_malloc();
    std::ofstream out("/proc/self/clear_refs");
    can_ = static_cast<bool>(out << "5" << std::flush);
    before_ = status_bytes("VmRSS");
    can_ = can_ && before_ > 0;
  }
  /// False where that cannot be known: another system, or a sanitizer, which keeps what is freed.
  bool can_tell() const { return can_ && !kSanitized; }
  std::uint64_t bytes() const {
    const std::uint64_t most = status_bytes("VmHWM");
    return most > before_ ? most - before_ : 0;
  }

 private:
  bool can_ = false;
  std::uint64_t before_ = 0;
};

}  // namespace lapidary::test
