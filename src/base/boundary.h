#pragma once

// Where the library meets the program that it is a guest of: what may leave it, and how it calls
// back.

#include <exception>
#include <utility>

namespace lapidary {

/// Carries what a callback of the host threw through the library, which must not take it for an
/// exception of its own.
struct HostException {
  std::exception_ptr original;
};

/// Calls a callback of the host.
template <class Callback, class... Args>
decltype(auto) call_host(const Callback& callback, Args&&... args) {
  try {
    return callback(std::forward<Args>(args)...);
  } catch (...) {
    throw HostException{std::current_exception()};
  }
}

/// Throws what is being handled as the host may see it: an Error whose message is one printable
/// line of at most kMostOfALine bytes, or what its own callback threw. Memory that has run out is
/// an Error(kMemory), for which none is taken.
[[noreturn]] void rethrow_to_host();

/// Runs `body`, all that a public function does. Must not stand around another public function that
/// calls back: its host exceptions have lost their mark.
template <class F>
decltype(auto) at_boundary(F&& body) {
  try {
    return std::forward<F>(body)();
  } catch (...) {
    rethrow_to_host();
  }
}

/// Throws Error(kUsage): an object called `name` is used that holds nothing.
[[noreturn]] void throw_empty(const char* name);

}  // namespace lapidary
