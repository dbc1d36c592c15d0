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
#include "model/page_table.h"
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

/// Tokens of one sequence that a pass computes: positions [position, position + ids.size()) behind
/// those that `table` has, to which theirs are added.
struct Piece {
  PageTable* table;
  std::span<const std::int32_t> ids;  // Within the vocabulary, those of an image excepted.
  int position;
  /// Each lies within the positions as a whole, in order and apart; its tokens see each other.
  std::span<const ImageRows> images = {};
  int first_row = 0;  // < ids.size(): the first whose hidden row is wanted.
};

/// The transformer: work buffers for one pass at a time over any mix of sequences. One thread at a
/// time.
class Decoder {
 public:
  /// Everything that a decoder takes.
  static std::uint64_t memory_bytes(const Config& config, int context, int pass, int threads);

  /// For passes of at most `pass` tokens over sequences of at most `context`. `weights` and `team`
  /// must outlive it. Throws Error(kMemory).
  Decoder(const Weights& weights, Team& team, int context, int pass);
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  /// Computes `pieces` of different sequences, at most `pass` tokens in all, each with the bits of
  /// a forward of it alone. A position may go back to 0, or by at most kMostRewind from the highest
  /// end since position 0. Rows from each piece's first_row on get hidden rows; of the others the
  /// last layer is spared all but keys and values. Once `cancel` is set, throws Error(kInterrupted)
  /// after the tasks that are under way: these positions are not computed then. Takes pages, and
  /// allocates nothing else.
  void forward(std::span<const Piece> pieces, const std::atomic<bool>* cancel = nullptr);

  /// Hidden rows of the last forward, [width] each, piece by piece, before the last norm.
  const float* row(int i) const { return s_.x[i]; }

  /// All logits of `rows`, each a hidden row: out[i] is that of rows[i]. At most kHeadRows.
  /// Allocates nothing.
  void logits(std::span<const float* const> rows, const Rows<float>& out);

  /// The best of these rows' logits instead of all: those that `query` asks for, for each of 1 to
  /// HeadQuery::kMostTokens rows. False: all must be computed, or are cheaper so. Allocates
  /// nothing.
  bool best_logits(std::span<const float* const> rows, const HeadQuery& query);

  /// What the last best_logits found for its row `row`, best first, then query.also.
  std::span<const ScoredRow> best(int row) const;

  HeadStats head_stats() const;

 private:
  void place(const Piece& piece);
  void place_image(const ImageRows& image, int begin, int position);
  void drop_first_rows(std::span<const Piece> pieces);
  void embed(Worker& worker);
  void set_angles(int t);
  void attention_block(Worker& worker, int i, std::span<const Piece> pieces);
  void feed_forward_block(Worker& worker, int i);
  void rotate_and_store(int i, int t);
  void norm_for(const float* weight, int t);
  void add_normed(const float* weight, const float* next, int t);
  void norm_for_head(Worker& worker, std::span<const float* const> rows);
  const GatedScratch& scratch(const Worker& worker) const;

  const Weights& w_;
  const Config& c_;
  const kernels::Kernels& kernels_;
  Team& team_;
  Arena arena_;
  State s_;
  Attention attention_;
  Head head_;
  std::vector<double> frequencies_[2];  // By layer kind; radians a position.
  std::vector<Run> runs_;               // Of the last forward, …
  int tokens_ = 0;                      // … and their tokens; behind it, those with hidden rows.
};

}  // namespace lapidary
