#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "lapidary/scheduler.h"
#include "runtime/generation.h"
#include "runtime/scoring.h"
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
  /// Adds what the next pass computes of it, at most `most` tokens and what an image makes of them.
  void add_pieces(int most, std::vector<Piece>& pieces);
  /// A pass has computed what was added; its hidden rows are those from `row` on. Returns how many.
  int end_pass(int row);

  /// Hidden rows of the last pass whose logits are wanted besides; valid until the next.
  std::span<const float* const> rows() const;
  /// The logits of rows()[i]. Different rows may come from different threads.
  void take_row(std::size_t i, std::span<const float> logits);
  void end_rows();

  /// Whether a token is to be drawn of the last row: everything is computed, and it has not ended.
  bool wants_token();
  void take(TokenId id) { generation_->take(id); }
  bool wants_logprobs() const { return generation_->wants_logprobs(); }
  void note(TokenId id, std::span<const float> logits) { generation_->note(id, logits); }
  const SamplingOptions& sampling() const { return generation_->sampling(); }
  std::size_t drawable() const { return generation_->drawable(); }

  /// Whether the prompt is computed and tokens are drawn.
  bool in_answer() const { return prompted_ && !scores() && !finished(); }
  /// Whether the prompt's own log-probabilities are wanted, for which all of it is computed.
  bool echoes() const { return request_->request.echo && index_ == 0; }
  /// Whether continuations are scored instead.
  bool scores() const { return !request_->request.choices.empty(); }
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
  void end_prompt();
  void note_echo(int row);
  static double seconds_since(std::chrono::steady_clock::time_point start);

  std::shared_ptr<const QueuedRequest> request_;
  int index_;
  bool prompted_ = false;  // The whole prompt is computed.
  std::optional<Generation> generation_;
  std::optional<Piece> piece_;      // Of the sequence, in the pass under way.
  std::optional<Scoring> scoring_;  // Once the prompt is computed.
  bool scored_ = false;
  std::vector<Score> scores_;
  std::vector<const float*> echo_rows_;
  std::vector<std::size_t> echo_places_;  // The tokens of the prompt that follow them.
  std::vector<std::optional<TokenLogprob>> echo_;
  std::optional<Error> error_;
  std::chrono::steady_clock::time_point start_;  // Of the prompt, then of the answer.
};

}  // namespace lapidary
