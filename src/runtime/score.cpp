#include "lapidary/score.h"

#include "base/boundary.h"
#include "base/format.h"
#include "lapidary/error.h"
#include "runtime/log_probabilities.h"
#include "runtime/scoring.h"
#include "runtime/session_impl.h"

namespace lapidary {

TokenLogprob log_probability(std::span<const float> logits, TokenId id, int best) {
  return at_boundary([&] {
    check_logprobs(best, "best");
    if (id < 0 || static_cast<std::size_t>(id) >= logits.size()) {
      throw Error(ErrorCode::kUsage, format("id {} is outside the {} logits", id, logits.size()));
    }
    return LogSoftmax(logits).of(id, best);
  });
}

std::vector<Score> Session::score(std::span<const std::vector<TokenId>> continuations,
                                  const std::atomic<bool>* cancel) {
  return use(impl_.get(), Impl::kName,
             [&](Impl& own) { return lapidary::score(own, continuations, cancel); });
}

}  // namespace lapidary
