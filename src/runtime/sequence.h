#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/memory.h"
#include "base/team.h"
#include "lapidary/session.h"
#include "model/decoder.h"
#include "runtime/sampler.h"
#include "runtime/session_plan.h"

namespace lapidary {

class Speculator;

/// Most ids that are guessed and verified in one forward.
inline constexpr int kMaxDraft = 8;

/// The tokens behind a Session. Its last ids may be drawn and not computed yet (`computed` <
/// ids.size()): they are computed with whatever comes next, or when their logits are asked for.
class Sequence {
 public:
  Sequence(const Model& model, const SessionOptions& options);
  ~Sequence();
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  void append(std::span<const TokenId> ids, std::span<const ImageFeatures> images,
              const Progress& progress, const std::atomic<bool>* cancel);
  void append_with_logits(std::span<const TokenId> ids, std::span<const ImageFeatures> images,
                          const std::function<void(int, std::span<const float>)>& on_logits,
                          const std::atomic<bool>* cancel);

  /// Computes what is left to compute, then the logits of the last id. Empty for an empty session.
  /// Allocates nothing.
  std::span<const float> logits();

  /// Computes what is left to compute. When that is one id, `draft` is computed behind it in the
  /// same forward (at most kMaxDraft ids, drawable, within chunk and context): as long as the ids
  /// drawn next are those of the draft, compute() finds them done. Allocates nothing.
  void compute(std::span<const TokenId> draft = {});

  /// The rest of the last draft: what is computed behind `computed` if it is drawn.
  std::span<const TokenId> ahead() const { return ahead_; }

  /// Whether compute() will run the model: the last id is not computed, not even as a draft.
  bool needs_forward() const;

  /// The row of the last computed id in the decoder's last forward.
  int last_row() const { return computed - 1 - forward_begin_; }

  /// The id that follows row `row` of the last forward, where `history` are the ids up to there:
  /// its size is the position of the random number. Only the first `drawable` ids are drawn. Reads
  /// as much of the head as that takes; the id is the one that sampling from all logits gives.
  TokenId draw(int row, std::span<const TokenId> history, std::size_t drawable,
               const SamplingOptions& sampling);

  /// Computes ids[i] behind sequences[i] in one forward of sequences[0], and all their logits. All
  /// are computed up to their ends, have room, and know the ids.
  static void append_each(std::span<Sequence* const> sequences, std::span<const TokenId> ids);

  /// Throws for ids outside the vocabulary, or more than there is room for.
  void check_ids(std::span<const TokenId> new_ids) const;

  /// Drops the ids from `count` on; no further back than the decoder may go.
  void rewind(std::size_t count);

  /// Computes what is left to compute, then draws the id that follows the last one, which is not
  /// added.
  TokenId draw(const SamplingOptions& sampling);

  void add_user(std::span<const ContentPart> parts, std::string_view system,
                const std::atomic<bool>* cancel);

  /// `options` with what ends a turn of the model.
  GenerateOptions reply_options(GenerateOptions options) const;

  /// Appends what add_user left. A queue that does not fit is dropped; one that is interrupted, by
  /// `cancel` or by what `progress` throws, keeps its rest.
  void append_queue(const Progress& progress, const std::atomic<bool>* cancel);

  void clear();

  Model model;
  Team team;
  SessionPlan plan;
  Decoder decoder;
  Sampler sampler;
  std::vector<TokenId> ids;    // Capacity: the context.
  int computed = 0;            // Ids whose keys and values are in the cache.
  int cached = 0;              // Of those, how many a generation or reply left behind; for Usage.
  double prefill_seconds = 0;  // Spent in append since then.
  std::unique_ptr<Speculator> speculator;  // nullptr: this one drafts for another.

 private:
  struct Rollback;

  void begin_append(std::span<const TokenId> new_ids, std::span<const ImageFeatures> images);
  void take_computed(TokenId id, std::span<const float> logits);
  std::span<const ImageRows> next_chunk(int& count) const;
  bool find_best(int row, const HeadQuery& query);
  enum class LogitsOf { kLast, kAll };
  int forward_chunk(LogitsOf rows, std::size_t done, std::size_t total,
                    const std::atomic<bool>* cancel);
  void forward_draft(std::span<const TokenId> draft);
  bool take_ahead();
  bool has_logits(int row) const;
  void prepare_logits(int first, int count);
  std::span<float> logit_rows(int count) const;
  std::span<const float> row_logits(int row) const;

  HugeBuffer logits_;     // [kLogitRows][vocabulary]
  int logits_first_ = 0;  // Rows [first, first + count) of the last forward that are in logits_.
  int logits_count_ = 0;
  int best_first_ = 0;  // Rows of the last forward that best_query_ was answered for.
  int best_count_ = 0;
  HeadQuery best_query_ = {};
  int forward_begin_ = 0;                                // Position of the decoder's last forward.
  std::array<TokenId, kMaxDraft + 1> forward_ids_ = {};  // An id and the draft behind it.
  std::span<const TokenId> ahead_;                       // Part of it.
  bool given_up_ = false;          // The decoder's last forward was, by a cancel.
  std::vector<ImageRows> images_;  // Of the append that is going on.
  Prompt queue_;                   // What add_user left.
};

}  // namespace lapidary
