#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "lapidary/scheduler.h"
#include "runtime/generation.h"
#include "runtime/sequence.h"

namespace lapidary {

/// A request of a scheduler, shared by the answers to it.
struct QueuedRequest {
  std::uint64_t number;
  Request request;
};

/// One answer under way: a sequence whose prompt is computed in pieces, then an answer drawn token
/// by token. Everything but the constructor wants a turn of the engine.
class RunningAnswer {
 public:
  /// Throws Error(kMemory) when the engine cannot promise the pages now.
  RunningAnswer(const std::shared_ptr<EngineCore>& engine, const SessionPlan& plan,
                std::shared_ptr<const QueuedRequest> request, int index);
  RunningAnswer(const RunningAnswer&) = delete;
  RunningAnswer& operator=(const RunningAnswer&) = delete;

  const Prompt& prompt() const { return request_->request.prompt; }

  /// Takes what the engine has of the prompt, and keeps its first `keep_at` positions for others
  /// once they are computed; 0: nothing. Guesses only where it is `alone`.
  void begin(int keep_at, bool alone);
  bool begun() const { return generation_.has_value(); }

  /// Whether the prompt is being computed.
  bool in_prompt() const { return begun() && !prompted_; }
  /// Whether a pass has something to compute of it.
  bool wants_pass() const;
  Piece next_piece(int most) { return sequence.next_piece(most); }
  void end_piece(const Piece& piece, int row);

  /// Whether a token is to be drawn of the last row: everything is computed, and it has not ended.
  bool wants_token();
  void take(TokenId id) { generation_->take(id); }
  const SamplingOptions& sampling() const { return generation_->sampling(); }
  std::size_t drawable() const { return generation_->drawable(); }

  /// Whether the prompt is computed and tokens are drawn.
  bool in_answer() const { return prompted_ && !finished(); }
  /// Computes and draws as a session does, guesses included. Takes turns of its own.
  void step_alone();

  /// Ends it by what was thrown on the way.
  void fail(const Error& error) { error_ = error; }
  bool finished() const;
  /// Once, when it has finished.
  Answer answer();

  Sequence sequence;

 private:
  bool cancelled() const;
  void keep_prompt() const;
  static double seconds_since(std::chrono::steady_clock::time_point start);

  std::shared_ptr<const QueuedRequest> request_;
  int index_;
  bool prompted_ = false;  // The whole prompt is computed.
  std::optional<Generation> generation_;
  std::optional<Error> error_;
  std::chrono::steady_clock::time_point start_;  // Of the prompt, then of the answer.
};

}  // namespace lapidary
