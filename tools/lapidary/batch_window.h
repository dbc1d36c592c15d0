#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "answerer.h"
#include "batch_plan.h"
#include "batch_progress.h"
#include "logprob_json.h"

namespace cli {

/// A line of answers.
struct BatchResult {
  std::uint64_t place = 0;  ///< Of its request,
  std::uint64_t bytes = 0;  ///< and how long that is.
  std::string line;
  bool failed = false;
};

/// The requests that are read and not answered: those that are computed, and behind them enough
/// that the scheduler can choose those that begin alike.
class BatchWindow {
 public:
  /// `seed` is that of place 0.
  BatchWindow(const BatchOptions& options, Answerer& work, std::uint64_t seed);

  /// Whether another request should be read. Bounded in requests, in bytes, and in how far answers
  /// may run ahead of the first that is under way.
  bool room() const;

  /// Hands a request to the scheduler. The result at once of one that cannot be answered. Throws
  /// Error(kInterrupted).
  std::optional<BatchResult> add(const BatchLine& line);

  /// Computes one pass; what that has finished, if any. Throws as Scheduler::step().
  std::vector<BatchResult> step();

  /// Whether nothing is under way. Throws Error(kFailed) when the scheduler has none of what is.
  bool empty() const;

  const BatchCount& count() const { return count_; }  ///< Tokens of what was finished.

 private:
  struct Pending {
    BatchLine line;  // Without its prompt.
    std::uint64_t prompt_bytes = 0;
    std::size_t prompt_tokens = 0;
    std::uint64_t seed = 0;
    std::vector<std::optional<lapidary::Completion>> drawn;  // One an answer.
    std::vector<lapidary::Score> scores;
    EchoedPrompt echoed;  // Where that is asked for.
    std::size_t missing = 0;
  };

  BatchResult fail(const BatchLine& line, const RequestError& error) const;
  std::optional<BatchResult> take(Pending& pending, lapidary::Answer& answer);
  BatchChoice choice(const Pending& pending, const lapidary::Completion& drawn) const;
  BatchResult whole(const Pending& pending);

  const BatchOptions& options_;
  Answerer& work_;
  lapidary::Scheduler scheduler_;
  std::uint64_t seed_;
  std::map<std::uint64_t, Pending> pending_;  // By the scheduler's numbers, and so by place.
  std::uint64_t prompt_bytes_ = 0;            // Of all of them.
  std::uint64_t last_place_ = 0;              // That was added.
  BatchCount count_;
};

}  // namespace cli
