#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "lapidary/session.h"
#include "runtime/draft_controller.h"
#include "runtime/draft_model.h"
#include "runtime/ngram_index.h"
#include "runtime/sequence.h"

namespace lapidary {

/// Guesses what a session's sequence goes on with: from its own ids, or with a draft model. Only
/// speed depends on it. Takes all memory when it is made.
class Speculator {
 public:
  static std::uint64_t draft_bytes(const SessionPlan& plan, const SessionOptions& options,
                                   int threads);

  /// Throws Error(kUsage) for a draft model of another vocabulary than `target`'s.
  Speculator(const Model& target, const SessionPlan& plan, const SessionOptions& options);

  /// Lets the draft model read `ids`, all that the target has computed.
  void follow(std::span<const TokenId> ids);

  /// Ids that may follow `ids`, for a forward over the last of them and the draft: at most `most`,
  /// each below `drawable` and no stop id. Valid until the next call.
  std::span<const TokenId> propose(std::span<const TokenId> ids, std::size_t most,
                                   std::size_t drawable, const GenerateOptions& options);

  /// Learns from a step: `id` was drawn in `seconds` by a forward over `rows` rows; 0 rows: from a
  /// row that a draft had left (`foreseen`), or from the prompt's last.
  void record(TokenId id, int rows, double seconds, bool foreseen);

  /// The target has gone back to its first `count` ids.
  void rewind(std::size_t count);
  void clear();

 private:
  std::size_t look_up(std::span<const TokenId> ids, std::size_t most, std::size_t drawable);
  std::size_t ask_model(std::span<const TokenId> ids, std::size_t count, std::size_t drawable,
                        const SamplingOptions& sampling);

  Tokenizer tokenizer_;
  int longest_forward_;
  NgramIndex index_;
  std::unique_ptr<DraftModel> model_;  // nullptr: none.
  DraftController controller_;
  std::array<TokenId, kMaxDraft> draft_ = {};
  NgramIndex::Match match_;  // Of the ids that draft_ was made for.
  bool from_model_ = false;  // draft_ is the model's.
  std::size_t guesses_ = 0;  // Ids of draft_ that are to be compared with what is drawn, …
  std::size_t next_ = 0;     // … this one next.
};

}  // namespace lapidary
