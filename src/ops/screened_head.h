#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/memory.h"
#include "base/team.h"
#include "kernels/kernels.h"
#include "lapidary/stats.h"
#include "ops/head_weights.h"

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

/// Finds the best rows of a head without reading all of it: the upper four or five bits of every
/// row (kernels/split.h) bound its logit from above; the lower plane is read where that does not
/// rule the row out, and what is left is multiplied as the full head multiplies it. The logits
/// found are the full head's, bit for bit, and none is missed: docs/numerics.md has the proof.
/// Where searches do not pay, most are not tried.
/// Holds work buffers for one team; allocates nothing after construction.
class ScreenedHead {
 public:
  /// Bytes that one takes for a head of `rows` × `columns`.
  static std::size_t memory_bytes(int rows, int columns);

  /// `head` is searchable and must outlive it. Throws Error(kMemory).
  ScreenedHead(const HeadWeights& head, const kernels::Kernels& kernels);

  /// As Head::best, whose contract is this one's: `input` is in 16 bits, and in fp32 where the head
  /// has panels beside its planes. False: reading the full head is cheaper.
  bool search(Worker& worker, const LinearInput& input, int tokens, const HeadQuery& query,
              std::byte* scratch);

  /// What the last search found for a token, best first, then the rows of `also` that are not among
  /// them. Valid until the next.
  std::span<const ScoredRow> found(int token) const;

  const HeadStats& stats() const { return stats_; }

 private:
  bool search_with(int bits, Worker& worker, const LinearInput& input, int tokens,
                   const HeadQuery& query, std::byte* scratch);
  void count_search(int tokens, bool found);
  void prepare(int bits, const LinearInput& input, int token);
  void spread(int bits, const kernels::QuantizedInput& input, std::size_t token,
              kernels::ScreenInput& out);
  void scan(int bits, Worker& worker, const LinearInput& input, int tokens, std::byte* scratch);
  bool select(Worker& worker, const LinearInput& input, int token, const HeadQuery& query,
              std::byte* scratch);
  void pick_seeds(int token, const HeadQuery& query);
  void compute(Worker& worker, const LinearInput& input, int token, int begin, int end,
               std::byte* scratch, FunctionRef<void()> then);
  float threshold(const HeadQuery& query);
  void filter(int token, int begin, int end, int rows, float least);
  void refine(int token, std::span<const std::int32_t> rows, float least);
  void want(int panel);
  void collect(int token, const HeadQuery& query);
  void add_wanted(const HeadQuery& query, std::vector<ScoredRow>& found);
  void gather(const HeadQuery& query, float least);

  static constexpr int kTokens = HeadQuery::kMostTokens;

  /// Whether the planes are a copy.
  bool copied() const { return !head_.in_planes(); }
  bool two_bits() const { return planes_.packing == kernels::Packing::kQ6Split; }
  std::size_t blocks() const { return planes_.layout().count(); }
  float* estimates(int token) { return estimates_ + static_cast<std::size_t>(token) * padded_; }
  float* uppers(int token) { return uppers_ + static_cast<std::size_t>(token) * padded_; }

  const HeadWeights& head_;
  const PlanesMatrix& planes_;
  const kernels::Kernels& kernels_;
  std::size_t padded_;  // Rows in whole panels.
  float slack_;         // Share of a bound that covers what rounding can add.
  HugeBuffer memory_;
  float* estimates_;          // [kTokens][padded_]
  float* uppers_;             // [kTokens][padded_]
  float* peaks_;              // [kTokens][panels]: the largest estimate of a panel
  float* exact_;              // [kMostPanels][16]: logits of the panels listed in panels_
  std::vector<float> lanes_;  // [kTokens][3][blocks][16]: ScreenInput's arrays, or
  std::vector<kernels::TwoBitInput> two_bit_inputs_;  // [kTokens][blocks / 8]
  std::vector<std::int8_t> norms_;                    // [kTokens][blocks to a multiple of 4]
  std::vector<kernels::ScreenInput> inputs_;          // [kTokens]
  std::vector<double> block_lengths_;  // [kTokens][blocks]: at least |x| of each block
  std::vector<float> lengths_;         // [kTokens]: at least |x|
  std::vector<std::int32_t> panels_;   // [kMostPanels]: to be multiplied in full.
  std::vector<std::uint8_t> listed_;   // [panels]
  std::vector<ScoredRow> rows_;        // Candidates of one token.
  std::vector<std::vector<ScoredRow>> found_;
  int five_bits_ = 0;   // Searches for the best row that shall begin with five bits, not four.
  int skips_ = 0;       // Searches that shall not be tried, …
  int next_skips_ = 0;  // … after the last that did not pay.
  float least_ = 0;     // No row below this is wanted.
  int limit_ = 0;       // Rows of the lower plane that a search may read.
  std::atomic<int> panel_count_{0};
  std::atomic<int> low_rows_{0};
  std::atomic<bool> gave_up_{false};
  HeadStats stats_;
};

}  // namespace lapidary
