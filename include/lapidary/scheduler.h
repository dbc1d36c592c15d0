#pragma once

// Many prompts answered together.

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "lapidary/engine.h"
#include "lapidary/error.h"
#include "lapidary/export.h"
#include "lapidary/prompt.h"
#include "lapidary/score.h"
#include "lapidary/session.h"

namespace lapidary {

/// How a scheduler shares out its engine.
struct SchedulerOptions {
  int parallel = 0;  ///< Most answers under way at a time; 0: what the memory of the engine and the
                     ///< machine make best. Changes speed and memory, never a bit. One alone
                     ///< guesses as a session does (GenerateOptions::speculation).
};

/// A prompt to answer.
struct Request {
  Prompt prompt;                 ///< Of at least one id.
  GenerateOptions options = {};  ///< `cancel` ends this one alone, as generate() ends.
  int answers = 1;  ///< 1 to 128, from one prefill: answer i draws with the seed plus i.
  /// Continuations to score instead of answering, as Session::score does; not empty: `answers` must
  /// be 1, there is no `echo`, and of `options` only `cancel` is looked at.
  std::vector<std::vector<TokenId>> choices = {};
  bool echo = false;  ///< Answer::prompt, with as many of the most probable ids as
                      ///< GenerateOptions::logprobs says. All of the prompt is computed then.
  bool keep = false;  ///< Keep prompt and answer for a prompt that goes on behind them, as the next
                      ///< turn of a conversation does.
};

/// An answer to a request.
struct Answer {
  std::uint64_t request = 0;       ///< As Scheduler::add returned it.
  int index = 0;                   ///< Below Request::answers.
  Completion completion;           ///< Of this answer, with its own usage.
  std::vector<Score> scores = {};  ///< Of Request::choices; empty where it was cancelled.
  /// Where Request::echo asks for it, of each token of the prompt, in answer 0; nothing for the
  /// first, which follows none, and for those of pictures.
  std::vector<std::optional<TokenLogprob>> prompt = {};
  std::optional<Error> error = {};  ///< What ended it, as generate() throws it.
};

/// Answers requests together in passes over the weights: a finished answer's place is taken at
/// once, and the prompts of newcomers enter in pieces beside the answers that are drawn. What is
/// drawn is the same bits as a session's own generate(). Of the requests that wait, those go first
/// that have the longest beginning in common with what the engine has. Belongs to one thread at a
/// time, as Session does. Empty ones are as Session's.
class LAPIDARY_API Scheduler {
 public:
  Scheduler() noexcept;  ///< An empty one.

  /// Throws Error(kUsage) for options out of range, Error(kMemory).
  explicit Scheduler(const Engine& engine, const SchedulerOptions& options = {});
  ~Scheduler();
  Scheduler(Scheduler&&) noexcept;             ///< Leaves an empty one.
  Scheduler& operator=(Scheduler&&) noexcept;  ///< Leaves an empty one.

  /// Whether this is a scheduler, not an empty one.
  explicit operator bool() const noexcept { return impl_ != nullptr; }

  /// Queues a request and returns its number: 0, 1, … Throws at once what the prompt or the options
  /// would make Session::append or generate throw (Error(kContext) and Error(kUsage)), and
  /// Error(kMemory) with both numbers for one that the engine's memory can never hold.
  std::uint64_t add(Request request);

  /// Computes one pass; returns the answers that it has finished, if any. Throws Error(kMemory).
  std::vector<Answer> step();

  std::size_t waiting() const;   ///< Requests that nothing was computed of.
  std::size_t running() const;   ///< Answers under way.
  std::size_t parallel() const;  ///< Most answers under way at a time.

  /// Whether every request has been answered.
  bool idle() const { return waiting() == 0 && running() == 0; }

 private:
  class LAPIDARY_NO_EXPORT Impl;
  Impl& impl() const;

  std::unique_ptr<Impl> impl_;
};

}  // namespace lapidary
