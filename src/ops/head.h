#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "base/rows.h"
#include "base/team.h"
#include "lapidary/stats.h"
#include "ops/head_weights.h"
#include "ops/screened_head.h"

namespace lapidary {

/// The output matrix at work: logits = E h, with a soft cap c, c · tanh(logit / c); all of them, or
/// the best. Whoever asks need not know how the matrix lies in memory. Holds work buffers for one
/// team; allocates nothing after construction.
class Head {
 public:
  /// Bytes that one takes at most, for a matrix of `rows` × `columns`.
  static std::size_t memory_bytes(int rows, int columns, bool searchable);

  /// `softcap` 0: none. `weights` must outlive it. Throws Error(kMemory).
  Head(const HeadWeights& weights, float softcap, const kernels::Kernels& kernels);

  /// Row `row` of the embedding in fp32. Any thread may call it.
  void copy_row(int row, float* out) const { lapidary::copy_row(weights_, row, out); }

  /// Makes of `input.dense` of a token what the matrix reads. Any thread may call it.
  void quantize(const LinearInput& input, int token) const;

  /// out[t] = all logits of token t, for tokens [0, tokens). For every worker of a team; ends with
  /// a barrier. `scratch` is the worker's own.
  void logits(Worker& worker, const LinearInput& input, int tokens, const Rows<float>& out,
              std::byte* scratch) const;

  /// Whether best() ever finds anything.
  bool searchable() const { return search_.has_value(); }

  /// Finds what `query` asks for, for tokens [0, tokens), 1 ≤ tokens ≤ HeadQuery::kMostTokens,
  /// 1 ≤ count ≤ kMostCount, at most kMostAlso `also`. For every worker of a team, which all get
  /// the same answer. False: all logits must be computed, or are cheaper so.
  bool best(Worker& worker, const LinearInput& input, int tokens, const HeadQuery& query,
            std::byte* scratch);

  /// What the last best() found for a token, best first, then the rows of `also` that are not among
  /// them. Valid until the next.
  std::span<const ScoredRow> found(int token) const { return search_->found(token); }

  HeadStats stats() const { return search_ ? search_->stats() : HeadStats{}; }

 private:
  void last_panel(const LinearInput& input, int tokens, const Rows<float>& out,
                  std::byte* scratch) const;
  void cap(int tokens, int begin, int end, const Rows<float>& out) const;

  const HeadWeights& weights_;
  const kernels::Kernels& kernels_;
  float softcap_;
  std::optional<ScreenedHead> search_;
};

}  // namespace lapidary
