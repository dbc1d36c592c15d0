#pragma once

#include <cstdint>
#include <span>

namespace lapidary {

/// Which logits are wanted: every row that is among the `count` best (ties go to the lower row) and
/// not more than `range` below the best.
struct HeadQuery {
  static constexpr int kMostTokens = 9;  // That are asked about at once: a drawn id and a draft.
  static constexpr int kMostCount = 512;
  static constexpr int kMostAlso = 64;

  int rows;  // Rows 0 … rows-1 count.
  int count;
  float range;                              // 0 or more; may be infinite.
  std::span<const std::int32_t> also = {};  // Rows that are wanted whatever their logits are.
};

struct ScoredRow {
  float logit;
  std::int32_t row;
};

/// The order of draws: the larger logit first, of equal ones the lower row.
inline bool better(const ScoredRow& a, const ScoredRow& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.row < b.row);
}

}  // namespace lapidary
