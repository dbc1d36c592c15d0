#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lapidary/session.h"
#include "model/decoder.h"
#include "runtime/engine_core.h"
#include "runtime/engine_plan.h"
#include "runtime/snapshots.h"

namespace lapidary {

class CheckedReader;
class CheckedWriter;
class Speculator;
struct SavedTokens;

/// Most ids that are guessed and verified in one forward.
inline constexpr int kMaxDraft = 8;

/// The tokens behind a Session, as one of the sequences of an engine. Its last ids may be drawn and
/// not computed yet (`computed` < ids.size()): they are computed with whatever comes next, or when
/// their logits are asked for. What computes takes a Turn of the engine for each pass, but for what
/// asks for one to be had.
class Sequence {
 public:
  /// Throws Error(kMemory) with both numbers when the engine cannot promise the pages of `plan`.
  Sequence(std::shared_ptr<EngineCore> engine, const SessionPlan& plan);
  /// One with an engine of its own. Throws as Session's constructor does.
  Sequence(const Model& model, const SessionOptions& options);
  /// What `other` has, shared. Throws as the first.
  struct Fork {};
  Sequence(Fork, const Sequence& other);
  ~Sequence();
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  void append(std::span<const TokenId> ids, std::span<const ImageFeatures> images,
              const Progress& progress, const std::atomic<bool>* cancel);
  /// Has its turn also while `on_logits` is called.
  void append_with_logits(std::span<const TokenId> ids, std::span<const ImageFeatures> images,
                          const std::function<void(int, std::span<const float>)>& on_logits,
                          const std::atomic<bool>* cancel);

  /// Computes what is left to compute, then the logits of the last id. Empty for an empty session.
  /// Allocates nothing.
  std::span<const float> logits();

  /// Computes what is left to compute. When that is one id, `draft` is computed behind it in the
  /// same pass (at most kMaxDraft ids, drawable, within chunk and context): as long as the ids
  /// drawn next are those of the draft, compute() finds them done. Allocates nothing, but for a
  /// snapshot now and then where the plan has any.
  void compute(std::span<const TokenId> draft = {});
  void compute_in_turn(std::span<const TokenId> draft = {});

  /// The rest of the last draft: what is computed behind `computed` if it is drawn.
  std::span<const TokenId> ahead() const { return ahead_; }
  /// Somebody else writes where that is. Wants a turn.
  void forget_ahead() { ahead_ = {}; }

  /// Whether compute() will run the model: the last id is not computed, not even as a draft.
  bool needs_forward() const;

  /// Computes what is left to compute, then draws the id that follows the last one, which is not
  /// added. Of a draft that was foreseen, `history` are the ids up to there: its size is the
  /// position of the random number. Only the first `drawable` ids are drawn. Reads as much of the
  /// head as that takes; the id is the one that sampling from all logits gives.
  TokenId draw(const SamplingOptions& sampling);
  TokenId draw(std::span<const TokenId> history, std::size_t drawable,
               const SamplingOptions& sampling);
  TokenId draw_in_turn(std::span<const TokenId> history, std::size_t drawable,
                       const SamplingOptions& sampling);

  /// What the images of all ids were made of.
  std::span<const ImageFeatures> images() const { return features_; }

  // The steps of append(), for who computes several sequences in a pass. All want a turn.

  /// Adds ids and images that were checked, takes what the engine has of them already, unless they
  /// are to be computed `afresh` for the sake of their rows, and leaves the rest to next_piece().
  void begin(std::span<const TokenId> ids, std::span<const ImageFeatures> images,
             bool afresh = false);
  /// The next ids that are not computed, at most `most` and a chunk but for an image that they end
  /// in. There are some.
  Piece next_piece(int most);
  /// A pass of `decoder` has computed `piece`; its hidden rows are those from `row` on.
  void end_piece(const Piece& piece, const Decoder& decoder, int row);
  /// The same for ids that are added by it.
  void take_computed(const Piece& piece, const Decoder& decoder, int row);
  /// Keeps what will be computed of the first `count` ids for others that begin so.
  void keep_at(int count);
  /// Has the end of what is computed written to the prefix cache on disk, if so many ids lie behind
  /// what is there.
  void store_end(std::size_t worth);
  /// The hidden row of the last id, which is computed.
  HiddenRow last_row() const { return row(computed - 1); }
  /// What was appended last is computed, or given up.
  void end_append();

  /// Throws for ids outside the vocabulary, or more than there is room for.
  void check_ids(std::span<const TokenId> new_ids) const;
  static void check_ids(const Model& model, std::span<const TokenId> ids);

  /// Drops the ids from `count` on. Goes on from the nearest place where windows are there or can
  /// be made: what lies between is left to compute. Throws Error(kUsage) within a picture.
  void rewind(std::size_t count);

  /// Makes a snapshot of what is computed, where the plan has any.
  void take_snapshot(SnapshotKind kind);

  /// Writes a file that load() reads (docs/decisions/0031-saved-sessions.md), in turn until all is
  /// written. Throws Error(kFile), Error(kInterrupted) once `cancel` is set.
  void save(const std::string& path, std::string_view note, const std::atomic<bool>* cancel);

  /// Takes what save() wrote, in place of what is there; in turn while pages are read. Throws as
  /// Session::load does.
  Loaded load(const std::string& path, IfUnusable otherwise, const Progress& progress,
              const std::atomic<bool>* cancel);

  /// Makes room for the rows of drafts. compute() has none without.
  void allow_drafts();

  /// Keeps what was computed for reuse, where the engine does and `keeps`, and forgets everything.
  void clear();
  bool keeps = true;

  /// What was computed. Wants a turn.
  PrefixView computed_prefix() const;

  const std::shared_ptr<EngineCore> engine;
  const SessionPlan plan;
  PageTable table;
  Snapshots snapshots;
  std::vector<TokenId> ids;  // Capacity: the context.
  int computed = 0;          // Ids whose keys and values are in the table.
  int cached = 0;  // Of those, how many a generation left behind or the engine had; for Usage.
  double prefill_seconds = 0;              // Spent in append since then.
  std::unique_ptr<Speculator> speculator;  // nullptr: none was needed yet.

 private:
  struct Rollback;
  struct Saved;
  struct Whole;
  struct Own {
    std::shared_ptr<EngineCore> engine;
    SessionPlan plan;
  };
  static Own make_own(const Model& model, const SessionOptions& options);
  explicit Sequence(Own own) : Sequence(std::move(own.engine), own.plan) {}

  void begin_append(std::span<const TokenId> new_ids, std::span<const ImageFeatures> images);
  void reuse();
  PrefixCache::Match find_kept();
  bool take_stored(std::size_t kept);
  void store_at(int count);
  void store_before_end();
  std::span<const ImageRows> images_to(int& end) const;
  int forward_piece(bool all_rows, std::size_t done, std::size_t total,
                    const std::atomic<bool>* cancel);
  void forward_draft(std::span<const TokenId> draft);
  bool take_ahead();
  void take_rows(const Decoder& decoder, int row, int count, int position);
  bool has_row(int position) const;
  HiddenRow row(int position) const;
  int begin_of_last(std::size_t count) const;
  PlacedPicture placed(const ImageRows& rows, const ImageFeatures& features) const;
  void drop_pictures(std::size_t count);
  void go_back(int count);
  void take_kept(int count);
  void take_row(std::span<const float> row, int count);
  bool go_on_from_here(int count) const;
  int windows_begin(int count) const;
  std::span<const HiddenRow> rows_from(int position);
  void write_state(CheckedWriter& out, const std::atomic<bool>* cancel) const;
  Saved read_state(const CheckedReader& file, const SavedTokens& tokens) const;
  void thin(Saved& saved) const;
  void take_saved(const CheckedReader& file, const SavedTokens& tokens,
                  const std::atomic<bool>* cancel);

  std::vector<float> hidden_;  // [1 or kMaxDraft + 1][width]: rows of …
  int hidden_begin_ = 0;       // … these positions …
  int hidden_count_ = 0;
  std::uint64_t hidden_number_ = 0;  // … and the number of the first.
  std::array<HiddenRow, kMaxDraft + 1> wanted_ = {};
  std::array<TokenId, kMaxDraft + 1> forward_ids_ = {};  // An id and the draft behind it.
  std::span<const TokenId> ahead_;                       // Part of it.
  std::vector<ImageRows> images_;                        // Of all ids; their rows are those of …
  std::vector<ImageFeatures> features_;                  // … these.
  std::vector<PlacedPicture> pictures_;  // The same for reuse: with digests where the engine does.
  std::vector<int> keep_at_;   // Pieces end here, and what was computed is kept for others, …
  std::vector<int> store_at_;  // … and here, and it is written to the prefix cache on disk.
  std::size_t stored_ = 0;     // Ids from the first on whose place is there.
};

}  // namespace lapidary
