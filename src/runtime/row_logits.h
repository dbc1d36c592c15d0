#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/memory.h"
#include "model/decoder.h"

namespace lapidary {

/// The hidden row behind one token, and a number that no other row of its engine ever has.
struct HiddenRow {
  const float* values;  // [width]
  std::uint64_t number;
};

/// Numbers for `count` hidden rows that no other row of the process has. From any thread.
std::uint64_t number_rows(int count);

/// What the head made last of some hidden rows: all of their logits, and the best of them. Of
/// whatever sequences; one thread at a time. Allocates nothing after construction.
class RowLogits {
 public:
  /// Throws Error(kMemory).
  RowLogits(Decoder& decoder, int vocabulary, int most_rows);

  int most_rows() const { return most_rows_; }

  /// Computes all logits of `rows`, at most most_rows() whose numbers follow each other or not,
  /// unless they are those that were computed last.
  void compute(std::span<const HiddenRow> rows);

  /// Takes the logits of a row that somebody else computed, as the only ones.
  void take(std::uint64_t number, std::span<const float> logits);

  bool has(std::uint64_t number) const { return index(number) >= 0; }
  /// Of a row that is there. Valid until the next compute or take.
  std::span<const float> all(std::uint64_t number) const;

  /// Searches for what `query` asks for, for each of `rows`, at most HeadQuery::kMostTokens, unless
  /// that is the last search. False: all logits must be computed, or are cheaper so.
  bool find_best(std::span<const HiddenRow> rows, const HeadQuery& query);
  /// What the last search found for a row of it.
  std::span<const ScoredRow> best(std::uint64_t number) const;

 private:
  std::span<float> row(int i) const;
  int index(std::uint64_t number) const;

  Decoder& decoder_;
  std::size_t vocabulary_;
  int most_rows_;
  HugeBuffer logits_;                    // [most_rows][vocabulary]
  std::vector<std::uint64_t> numbers_;   // Of the rows in logits_.
  std::vector<std::uint64_t> searched_;  // Rows of the last search …
  HeadQuery query_ = {};                 // … which was for this.
  std::vector<const float*> values_;
};

}  // namespace lapidary
