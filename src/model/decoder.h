#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/memory.h"
#include "base/team.h"
#include "lapidary/stats.h"
#include "model/attention.h"
#include "model/config.h"
#include "model/decoder_state.h"
#include "model/kv_cache.h"
#include "ops/head.h"

namespace lapidary {

namespace kernels {
struct Kernels;
}

/// Packed weights of one model; immutable, shared by all decoders on all threads. See weights.h for
/// its fields.
struct Weights;

struct WeightsDeleter {
  void operator()(const Weights* weights) const;
};
using WeightsPtr = std::unique_ptr<const Weights, WeightsDeleter>;

/// Bytes that the packed weights of `source` take; checks that every tensor is there and has the
/// right shape and type. Throws Error(kFile) naming the tensor.
std::uint64_t packed_weight_bytes(const WeightSource& source, const Config& config);

/// One line that names the tensors of `source` that the model does not use; empty: it uses all.
/// Throws Error(kFile) for one of a layer.
std::string unused_tensors(const WeightSource& source, const Config& config);

/// Of the packed weights, the bytes that decoding one token reads.
std::uint64_t weight_bytes_per_token(const WeightSource& source, const Config& config);

/// Multiply-adds of one token in the layers' matrices, the head not counted.
std::uint64_t multiplications_per_token(const Config& config);

/// Reads and packs all weights. `progress` gets bytes of tensors, on the calling thread in its own
/// floating-point environment. Throws Error(kFile) naming the tensor (also for a scale that is not
/// finite), Error(kMemory), Error(kInterrupted) once `cancel` is set.
WeightsPtr load_weights(const WeightSource& source, const Config& config,
                        const kernels::Kernels& kernels, Team& team, const Progress& progress,
                        const std::atomic<bool>* cancel = nullptr);

/// One image among the tokens of a forward: positions [begin, begin + count) of the sequence, whose
/// input is `features`, [count][width], in place of embeddings.
struct ImageRows {
  int begin;
  int count;
  const float* features;
};

/// The transformer over one sequence: KV cache and work buffers of one session. One thread at a
/// time.
class Decoder {
 public:
  /// Everything that a decoder takes, KV cache included.
  static std::uint64_t memory_bytes(const Config& config, int context, int chunk, int threads);

  /// `weights` and `team` must outlive it. Throws Error(kMemory).
  Decoder(const Weights& weights, Team& team, int context, int chunk);
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  /// Computes positions [position, position + ids.size()) from ids and the cache of all positions
  /// before, and adds theirs to the cache. 1 ≤ ids.size() ≤ chunk; position + ids.size() ≤ context;
  /// ids within the vocabulary, those of an image excepted. Every one of `images` lies within the
  /// positions as a whole, in order and apart; its tokens see each other. `position` may go back to
  /// 0, or by at most `chunk` + 1 positions from the highest end since position 0: local layers
  /// keep a window and that much more, so what was written ahead has taken nothing that a window
  /// still sees. Only rows from `first_row` < ids.size() on get logits; of the others the last
  /// layer is spared all but keys and values. Once `cancel` is set, throws Error(kInterrupted)
  /// after the tasks that are under way: these positions are not computed then, and no rows have
  /// logits. Allocates nothing, takes no lock.
  void forward(std::span<const std::int32_t> ids, int position,
               std::span<const ImageRows> images = {}, int first_row = 0,
               const std::atomic<bool>* cancel = nullptr);

  static constexpr int kMostTogether = 16;
  /// The next position of several sequences in one pass over the weights: ids[i] at positions[i],
  /// behind the cache of sequences[i] and added to it, with the bits of a forward of each alone.
  /// Rows of logits() are of this decoder, whose buffers and team do the work. `sequences` are
  /// different decoders of the same weights, at most kMostTogether and this one's chunk. Allocates
  /// nothing.
  void forward_together(std::span<Decoder* const> sequences, std::span<const std::int32_t> ids,
                        std::span<const int> positions);

  /// Logits of rows [first, first + count) of the last forward, `count` × vocabulary floats; none
  /// before its first_row. Allocates nothing.
  void logits(int first, int count, std::span<float> out);

  /// The best of these rows' logits instead of all: those that `query` asks for, for each of
  /// `count` (1 to HeadQuery::kMostTokens) rows. False: all must be computed, or are cheaper so.
  /// Allocates nothing.
  bool best_logits(int first, int count, const HeadQuery& query);

  /// What the last best_logits found for row `first + row`, best first, then query.also.
  std::span<const ScoredRow> best(int row) const;

  HeadStats head_stats() const;

 private:
  void place_tokens();
  void place_images(std::span<const ImageRows> images);
  void drop_first_rows();
  void compute(std::span<const std::int32_t> ids, const std::atomic<bool>* cancel);
  void embed(Worker& worker, std::span<const std::int32_t> ids);
  void set_angles(int t);
  void attention_block(Worker& worker, int i);
  void feed_forward_block(Worker& worker, int i);
  void rotate_and_store(int i, int t);
  void norm_for(const float* weight, int t);
  void add_normed(const float* weight, const float* next, int t);
  void norm_for_head(Worker& worker, int first, int count);
  const GatedScratch& scratch(const Worker& worker) const;

  const Weights& w_;
  const Config& c_;
  const kernels::Kernels& kernels_;
  Team& team_;
  KvCache cache_;
  Arena arena_;
  State s_;
  Attention attention_;
  Head head_;
  std::vector<double> frequencies_[2];  // By layer kind; radians a position.
  std::vector<Run> runs_;               // Of the last forward, …
  int tokens_ = 0;                      // … and their tokens; behind it, those with logits.
  int first_row_ = 0;                   // The first of the last forward that has.
};

}  // namespace lapidary
