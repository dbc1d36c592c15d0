#pragma once

#include "base/team.h"

namespace lapidary {

/// What is done token by token for so few of them takes no longer than the barrier that would share
/// it out.
inline constexpr int kFewTokens = 2;

/// `phase(then)` runs work of all threads that ends with a barrier, at which `then` is run; behind
/// it follows `each` for every token of [0, tokens), done when this returns. So a layer has five
/// barriers for one token, and nine or ten for many.
template <class Phase, class Each>
void for_tokens_after(Worker& worker, int tokens, const Phase& phase, const Each& each) {
  if (tokens <= kFewTokens) {
    phase([&] {
      for (int t = 0; t < tokens; ++t) each(t);
    });
  } else {
    phase(kNothing);
    worker.for_each(tokens, each);
  }
}

}  // namespace lapidary
