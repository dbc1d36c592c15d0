#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "lapidary/score.h"
#include "runtime/engine_core.h"

namespace lapidary {

/// Throws Error(kUsage) for `count` out of 0 to kMostLogprobs; `name` stands in the message.
void check_logprobs(int count, const char* name);

/// Logits as log-probabilities: log softmax, in double, summed in an order that depends on the ids
/// alone. Refers to the logits. NaN counts as -inf; +inf as the limit of ever larger numbers.
class LogSoftmax {
 public:
  /// Throws Error(kFailed) when no logit is a number.
  explicit LogSoftmax(std::span<const float> logits);

  /// Of an id within the logits.
  double operator[](TokenId id) const;

  /// With the `count` most probable ids.
  TokenLogprob of(TokenId id, int count) const;

 private:
  double above(float logit) const;  // Relative to the largest.
  std::vector<RankedToken> best(int count) const;

  std::span<const float> logits_;
  float largest_;
  double log_sum_ = 0;  // Of the exponentials, relative to the largest.
};

/// The most probable id, the lowest of those alike: what temperature 0 draws.
TokenId most_probable(std::span<const float> logits);

/// Computes the logits of `rows`, hidden rows [width], as many in a product as the engine has room
/// for, and calls `use(i, logits)` for rows[i], on all threads, in any order. Wants a turn. Throws
/// what `use` throws, and Error(kInterrupted) between two products once `cancel` is set.
void use_logits(EngineCore& engine, std::span<const float* const> rows,
                const std::function<void(std::size_t, std::span<const float>)>& use,
                const std::atomic<bool>* cancel = nullptr);

}  // namespace lapidary
