#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "lapidary/session.h"
#include "lapidary/tokenizer.h"
#include "runtime/sequence.h"

namespace lapidary {

/// One generation, a token a step; what Session::generate and Reply share. All memory is taken by
/// the constructor: a step allocates nothing, unless log-probabilities are asked for, and takes no
/// lock.
class Generation {
 public:
  /// `session` must outlive it and not be used meanwhile. Throws Error(kUsage) for options out of
  /// range or an empty session.
  Generation(Sequence& session, const GenerateOptions& options);
  ~Generation() { settle(); }
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  /// Throws Error(kUsage) for options out of range.
  static void check(const GenerateOptions& options);

  /// Draws one token, or ends. False once it has ended before this call.
  bool step();

  // A step in two halves, for who computes and draws for several: the token comes of the
  // session's last row, among the first drawable() ids, as sampling() says.

  /// Whether a token is to be drawn; else it has ended, now or before.
  bool wants_token();
  /// The token that was drawn. Ends where that ends it.
  void take(TokenId id);
  bool finished() const { return finished_; }
  const SamplingOptions& sampling() const { return options_.sampling; }
  std::size_t drawable() const { return drawable_; }
  /// Whether take() wants to have been told by note() of all logits that the token was drawn of.
  bool wants_logprobs() const { return options_.logprobs >= 0; }
  void note(TokenId id, std::span<const float> logits);
  void set_decode_seconds(double seconds) { completion_.usage.decode_seconds = seconds; }

  /// The text that the last step made final; may be empty. Valid until the next.
  std::string_view piece() const { return piece_; }

  /// Steps to the end; `on_text` gets each piece, and cancels by returning false. The completion.
  Completion run(const OnText& on_text);

  /// Ends it as cancelled, unless it has ended already.
  void cancel();

  Completion& completion() { return completion_; }
  const Completion& completion() const { return completion_; }

 private:
  void prepare_drafts();
  TokenId next_id();
  TokenId next_id_noted();
  std::span<const TokenId> make_draft();
  void finish(FinishReason reason);
  void release_text(std::size_t end);
  bool cut_at_stop_string();
  std::size_t held_back() const;
  void settle();

  Sequence& session_;
  GenerateOptions options_;
  Detokenizer detokenizer_;
  Completion completion_;     // Its text also holds what might yet be a stop string …
  std::size_t released_ = 0;  // … behind the bytes that were handed out.
  std::string_view piece_;
  std::size_t limit_ = 0;     // Tokens that may be drawn.
  std::size_t drawable_ = 0;  // Ids that may be drawn: drawable_ids().
  bool finished_ = false;
  bool settled_ = false;
};

}  // namespace lapidary
