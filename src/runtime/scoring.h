#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "lapidary/score.h"
#include "runtime/sequence.h"

namespace lapidary {

class LogSoftmax;

/// Continuations of one sequence, each scored on a page table of its own that shares the
/// sequence's pages. Several are pieces of one pass. What is there of them at a time is what fits
/// into the pages that the sequence was promised and does not hold, and into what the engine has
/// promised to nobody. Where that is too little for a copy of the page that both write to, a
/// continuation within a chunk stands on the sequence's own table, which has room for the next
/// chunk in any case; what it leaves there is taken back.
///
/// The log-probability of the first token comes of the sequence's last row, that of any other of
/// the row of the token before it; the last token itself is not computed.
class Scoring {
 public:
  /// Throws Error(kUsage) for no continuation, an empty one, too many or ids outside the
  /// vocabulary, Error(kContext) for one that does not fit behind `taken` of `context` ids.
  static void check(const Model& model, std::span<const std::vector<TokenId>> continuations,
                    std::size_t taken, int context);

  /// What continuations behind `position` ids take besides the pages of those, in passes of at most
  /// `pass` tokens.
  struct Pages {
    std::int64_t longest = 0;  // Of those that do not fit into a pass, the one that takes most.
    std::int64_t wanted = 0;   // So that only passes are full, never memory.
  };
  static Pages pages(const Config& config, std::span<const std::vector<TokenId>> continuations,
                     int position, int pass);

  /// `continuations`, which were checked, behind all that `sequence` has and has computed; both
  /// must outlive it, and the sequence not be used meanwhile. Wants a turn. Throws Error(kMemory)
  /// with both numbers when a long continuation finds too few pages; later nothing does.
  Scoring(Sequence& sequence, std::span<const std::vector<TokenId>> continuations);
  /// Leaves the sequence as it was. Takes a turn, or comes within one.
  ~Scoring();
  Scoring(const Scoring&) = delete;
  Scoring& operator=(const Scoring&) = delete;

  bool done() const { return rows_.empty() && open_.empty() && next_ == continuations_.size(); }

  // A round: a pass, then the rows there are. All want a turn.

  /// Hidden rows whose logits are wanted: at first that of the sequence as well, then those of
  /// every pass, which are the decoder's, until its next pass.
  std::span<const float* const> rows() const { return rows_; }
  /// The logits of rows()[i]. Different rows may come from different threads.
  void take(std::size_t i, std::span<const float> logits);
  void end_rows();

  /// Adds the pieces of the next pass, of at most `most` tokens, to `pieces`. There are none where
  /// another sequence's leave too little.
  void add_pieces(int most, std::vector<Piece>& pieces);
  /// A pass has computed them; their hidden rows are those from `row` on. Returns how many.
  int end_pass(int row);

  /// Once done().
  std::vector<Score> scores() { return std::move(scores_); }

 private:
  /// A continuation that is being computed.
  struct Branch {
    std::size_t index;
    std::optional<PageTable> own;  // Nothing: the sequence's.
    std::int64_t pages;
    std::size_t computed = 0;
    std::size_t in_pass = 0;  // Tokens of the pass under way.
  };
  /// Where the log-probability that a row gives belongs.
  struct Place {
    std::size_t continuation = 0;
    std::size_t token = 0;
  };

  std::span<const TokenId> to_compute(std::size_t index) const;
  std::int64_t pages_of(std::size_t index) const;
  void promise();
  bool open_next(int most);
  void add_piece(Branch& branch, int most, std::vector<Piece>& pieces);
  void note(const Place& place, const LogSoftmax& logprobs, TokenId drawn);

  Sequence& sequence_;
  std::span<const std::vector<TokenId>> continuations_;
  int position_;
  std::int64_t budget_ = 0;    // Pages for branches, …
  std::int64_t promised_ = 0;  // … of which the engine has promised these besides.
  std::int64_t held_ = 0;      // By those that are open.
  std::size_t next_ = 0;       // To be opened.
  std::list<Branch> open_;
  bool in_place_ = false;  // One is open that stands on the sequence's table.
  std::vector<const float*> rows_;
  std::vector<Place> places_;  // Of rows_; token 0: the sequence's row, for all first tokens.
  std::vector<Score> scores_;
  std::vector<std::vector<char>> drawn_;  // Of each token, whether it is the most probable.
};

/// Scores `continuations` behind what `sequence` holds, which is computed first. Throws as
/// Session::score does.
std::vector<Score> score(Sequence& sequence, std::span<const std::vector<TokenId>> continuations,
                         const std::atomic<bool>* cancel);

}  // namespace lapidary
