#pragma once

#include "base/exclusive.h"
#include "lapidary/session.h"
#include "runtime/sequence.h"

namespace lapidary {

/// A sequence with guesses at what comes next, in one thread's hands at a time.
class Session::Impl : public Sequence {
 public:
  Impl(const Model& model, const SessionOptions& options);
  static constexpr const char* kName = "the session";  // In messages.
  Exclusive exclusive;
};

}  // namespace lapidary
