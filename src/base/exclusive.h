#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <string>

#include "base/boundary.h"
#include "lapidary/error.h"

namespace lapidary {

/// Tells misuse of what belongs to one thread at a time, and to the process that made it: its
/// threads are not in a fork's child.
class Exclusive {
 public:
  Exclusive() : process_(::getpid()) {}
  Exclusive(const Exclusive&) = delete;
  Exclusive& operator=(const Exclusive&) = delete;

 private:
  friend class Use;
  std::atomic<bool> used_{false};
  pid_t process_;
};

/// A call that is under way in something exclusive. Allocates nothing, waits for nobody.
class Use {
 public:
  /// Throws Error(kUsage) when another call is under way, or in a fork's child. `name` stands in
  /// the message: "the session".
  Use(Exclusive& object, const char* name) : object_(object) {
    if (object.process_ != ::getpid()) {
      throw Error(ErrorCode::kUsage,
                  std::string(name) +
                      " was made before a fork, and its threads are not in this process, which "
                      "must make one of its own");
    }
    if (object.used_.exchange(true, std::memory_order_acquire)) {
      throw Error(ErrorCode::kUsage,
                  std::string(name) +
                      " is in use: by another thread, or by the call that this one is called from");
    }
  }
  ~Use() { object_.used_.store(false, std::memory_order_release); }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

 private:
  Exclusive& object_;
};

/// Runs `body` with `*impl`, whose member `exclusive` is used meanwhile, as a public function does.
template <class Impl, class F>
decltype(auto) use(Impl* impl, const char* name, F&& body) {
  return at_boundary([&]() -> decltype(auto) {
    if (impl == nullptr) throw_empty(name);
    const Use call(impl->exclusive, name);
    return body(*impl);
  });
}

}  // namespace lapidary
