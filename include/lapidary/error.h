#pragma once

#include <stdexcept>
#include <string>

#include "lapidary/export.h"

namespace lapidary {

/// What kind of thing went wrong. The command line's exit codes follow from it.
enum class ErrorCode {
  kFailed,       ///< Something failed that no other code describes (exit 1).
  kUsage,        ///< A value handed in by the caller is out of range, or an object is used that is
                 ///< empty, in use by another thread, or of another process (exit 2).
  kFile,         ///< A file is missing, unreadable or invalid (exit 3).
  kMemory,       ///< Not enough memory, or over the budget (exit 4).
  kContext,      ///< The prompt does not fit the context (exit 5).
  kInterrupted,  ///< The caller asked to stop; what was computed stays (exit 130).
};

/// The only exception that leaves the library, but for what the host's own callbacks throw, which
/// passes through it unchanged. `what()` is one line of at most 2,000 bytes of valid UTF-8 that
/// says what was expected and what was found, and names the file, key or tensor. Whatever a file, a
/// path or another library put into it is cut where it is long, and holds no control characters and
/// no marks that turn the direction of writing.
///
/// Every function may throw Error(kMemory) where memory runs out. What else it throws stands with
/// it; one that says nothing throws nothing else.
class LAPIDARY_API Error : public std::runtime_error {
 public:
  /// One of the host's own, if it likes: the library passes it through as any other exception.
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Error(const Error&) = default;             ///< Shares the message; does not throw.
  Error& operator=(const Error&) = default;  ///< Shares the message; does not throw.
  ~Error() override;  // Not inline: the type has one home, so all libraries of a program catch it.

  /// What kind of thing went wrong; `what()` says which.
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace lapidary
