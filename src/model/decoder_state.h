#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/memory.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "ops/packed_matrix.h"

namespace lapidary {

class KvCache;

inline constexpr int kAttentionRows =
    32;  // Query rows of one attention task: their scores stay in L2.
// Rows of gate and up that one task turns into one block of `hidden`.
inline constexpr int kPairRows = 2 * kernels::kPanelRows;

/// What each thread needs for itself.
struct Scratch {
  std::byte* matmul;                    // A panel unpacked.
  float* gate;                          // [chunk][kPairRows]
  float* up;                            // [chunk][kPairRows]
  float* queries;                       // [kAttentionRows][head_dim]
  float* scores;                        // [kAttentionRows][kSegment]
  kernels::AttentionPart part, so_far;  // [kAttentionRows]
  std::int64_t* row_first;              // [kAttentionRows]
  std::int64_t* row_last;               // [kAttentionRows]
};

/// Everything between the layers, for one chunk of tokens.
struct State {
  const float** features;  // [chunk]: the row of an image that stands for the token, or nullptr
  KvCache** cache;         // [chunk]: of the token's sequence
  std::int64_t* position;  // [chunk]: in that sequence
  std::int64_t* last_key;  // [chunk]: the last position that the token sees
  float* x;                // [chunk][width]: the residual stream
  LinearInput normed;      // [chunk][width]: what a block of the layer reads
  float* q;                // [chunk][query_width]
  float* k;                // [chunk][kv_width]
  float* v;                // [chunk][kv_width]
  LinearInput attended;    // [chunk][query_width]
  float* projected;        // [chunk][width]: what a block of the layer adds
  // [chunk][feed_forward], in 16 bits: its outliers cost the most (docs/numerics.md)
  LinearInput hidden;
  LinearInput final;  // [chunk][width]: the head's input, in 16 bits
  float* cosine[2];   // [chunk][head_dim / 2], by layer kind: global, local
  float* sine[2];
  kernels::AttentionPart parts;  // [part_segments][kAttentionRows]
  int part_segments;             // Of the context.
  std::vector<Scratch> scratch;  // One a thread.
};

State make_state(Layout& layout, const Config& config, int context, int chunk, int threads);

/// Bytes that make_state takes.
std::size_t state_bytes(const Config& config, int context, int chunk, int threads);

/// Where row `row` of an array [rows][width] begins.
inline std::size_t at(int row, int width) {
  return static_cast<std::size_t>(row) * static_cast<std::size_t>(width);
}

/// As attention_merge wants it at first.
void clear(const kernels::AttentionPart& part, int rows, int head_dim);
/// `part` from row `row` on.
kernels::AttentionPart row_of(const kernels::AttentionPart& part, std::size_t row, int head_dim);

}  // namespace lapidary
