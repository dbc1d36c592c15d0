#pragma once

#include <array>
#include <cstdint>

#include "runtime/ngram_index.h"
#include "runtime/sequence.h"

namespace lapidary {

/// Decides how many ids are worth drafting, from what passes have cost and which guesses were
/// right. It knows no clock: seconds are told to it. All its reckoning is in units of a plain pass,
/// one that computes one row and draws from it.
///
/// Losses are bounded by an account: a pass with a draft takes from it what it costs beyond a plain
/// one, every id drawn of a draft gives back the plain pass it saved, and each pass adds 1 %. A
/// draft must be covered even if all of it is wrong.
class DraftController {
 public:
  /// `model_cost`: a draft model's pass over one id, in plain passes, until one has been measured.
  explicit DraftController(double model_cost) : model_cost_(model_cost) {}

  /// A pass over `rows` rows and the draw from the first of them.
  void record_pass(int rows, double seconds);
  /// A draw from a row that a draft had left.
  void record_draw(double seconds);
  /// `count` ids drafted by the draft model.
  void record_drafting(int count, double seconds);
  /// Whether the id that followed an earlier match of `length` ids was drawn. Also told when it was
  /// not drafted: looking costs nothing.
  void record_lookup(int length, bool hit) { lookup_[level(length)].record(hit); }
  void record_model(bool hit) { model_.record(hit); }

  struct Choice {
    int count = 0;     ///< Ids to draft; 0: none.
    double speed = 1;  ///< Ids per plain pass that it promises.
  };
  Choice choose_lookup(int length, int most) const;
  Choice choose_model(int most) const;

  double account() const { return account_; }

  /// The cost of a pass over `rows` rows: measured, or guessed from the next smaller one that was.
  double cost(int rows) const;

 private:
  /// The share of right guesses, recent ones counting most; a prior until there are some.
  struct Acceptance {
    double prior;
    double hits = 0;
    double guesses = 0;
    double share() const { return (hits + 2 * prior) / (guesses + 2); }
    void record(bool hit);
    void fade();
  };

  static constexpr int kLevels = 5;
  static std::size_t level(int length);
  template <class ShareOf>
  Choice choose(int most, double cost_per_id, ShareOf share_of) const;

  struct Cost {
    double seconds = 0;
    std::int64_t measured_at = 0;  // 0: never.
  };
  bool known(int rows) const;

  std::array<Acceptance, kLevels> lookup_ = {{{0.3}, {0.45}, {0.6}, {0.7}, {0.8}}};
  Acceptance model_ = {0.8};                    // Whoever gives a draft model wants it tried.
  std::array<Cost, kMaxDraft + 2> costs_ = {};  // By rows.
  double draw_seconds_ = 0;                     // 0: not measured.
  double model_cost_;
  double account_ = 0.75;
  std::int64_t passes_ = 0;
};

}  // namespace lapidary
