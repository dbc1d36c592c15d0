#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/team.h"
#include "model/config.h"
#include "model/decoder_state.h"
#include "model/page_table.h"

namespace lapidary {

/// Tokens [begin, begin + count) of a forward pass that follow each other in one sequence, from
/// `position` on, and the sequence's keys and values. The runs of a pass follow each other.
struct Run {
  const PageTable* table;
  int begin;
  int count;
  std::int64_t position;
};

/// a = softmax(q kᵀ + mask) v for the tokens of some runs, from State::q to State::attended. Every
/// row is the merger of segments of kSegment keys in the order of the keys, each with a softmax of
/// its own, so it has the same bits however the work is cut.
class Attention {
 public:
  Attention(const Config& config, const kernels::Kernels& kernels, const State& state)
      : c_(config), kernels_(kernels), s_(state), group_(config.query_heads / config.kv_heads) {}

  /// For every worker of a team; ends with a barrier.
  void run(Worker& worker, int layer, std::span<const Run> runs) const;

 private:
  struct Queries;
  struct Keys {
    std::int64_t first, last;  // That any token of a run sees in a layer.
    int segments() const;
  };
  struct Cut;

  void by_rows(Worker& worker, int layer, std::span<const Run> runs) const;
  void by_segments(Worker& worker, int layer, std::span<const Run> runs) const;
  void attend(const Scratch& scratch, int layer, const Queries& queries) const;
  void attend_segment(const Scratch& scratch, int layer, const Queries& queries, int segment) const;
  void merge_segments(const Scratch& scratch, int layer, const Run& run, int token, int head) const;

  Cut cut(const Run& run, int tokens, int workers) const;
  Keys keys(int layer, const Run& run) const;
  void gather(const Scratch& scratch, int layer, const Queries& queries) const;
  void store(const kernels::AttentionPart& part, int token, int head, int heads) const;
  std::size_t part_row(const Run& run, int kv_head) const;
  kernels::AttentionPart part(int segment, std::size_t row) const;
  kernels::AttentionArgs arguments(const Scratch& scratch, int layer, const Queries& queries) const;

  const Config& c_;
  const kernels::Kernels& kernels_;
  const State& s_;
  int group_;  // Query heads of a KV head.
};

}  // namespace lapidary
