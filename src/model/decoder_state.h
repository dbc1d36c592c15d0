#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/layout.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "ops/gated.h"
#include "ops/packed_matrix.h"

namespace lapidary {

class PageTable;

inline constexpr int kAttentionRows =
    32;                               // Query rows of one attention task: their scores stay in L2.
inline constexpr int kHeadRows = 64;  // Rows that the head takes at a time.

/// What each thread needs for itself.
struct Scratch {
  GatedScratch gated;                   // Its tokens are [chunk]; every product uses its `matmul`.
  Rows<float> queries;                  // [kAttentionRows][head_dim]
  float* scores;                        // [kAttentionRows][kSegment]
  kernels::AttentionPart part, so_far;  // [kAttentionRows]
  std::int64_t* row_first;              // [kAttentionRows]
  std::int64_t* row_last;               // [kAttentionRows]
};

/// Everything between the layers, for one chunk of tokens.
struct State {
  std::int32_t* ids;        // [chunk]
  const float** features;   // [chunk]: the row of an image that stands for the token, or nullptr
  const PageTable** table;  // [chunk]: of the token's sequence
  std::int64_t* position;   // [chunk]: in that sequence
  std::int64_t* last_key;   // [chunk]: the last position that the token sees
  Rows<float> x;            // [chunk][width]: the residual stream
  LinearInput normed;       // [chunk][width]: what a block of the layer reads
  Rows<float> q;            // [chunk][query_width]
  Rows<float> k;            // [chunk][kv_width]
  Rows<float> v;            // [chunk][kv_width]
  LinearInput attended;     // [chunk][query_width]
  Rows<float> projected;    // [chunk][width]: what a block of the layer adds
  // [chunk][feed_forward], in 16 bits: its outliers cost the most (docs/numerics.md)
  LinearInput hidden;
  LinearInput final;      // [kHeadRows][width]: the head's input, in 16 bits
  Rows<float> cosine[2];  // [chunk][head_dim / 2], by layer kind: global, local
  Rows<float> sine[2];
  kernels::AttentionPart parts;  // [part_segments][kAttentionRows]
  int part_segments;             // Of the context.
  std::vector<Scratch> scratch;  // One a thread.
};

State make_state(Layout& layout, const Config& config, int context, int chunk, int threads);

/// Bytes that make_state takes.
std::size_t state_bytes(const Config& config, int context, int chunk, int threads);

/// As attention_merge wants it at first.
void clear(const kernels::AttentionPart& part, int rows, int head_dim);
/// `part` from row `row` on.
kernels::AttentionPart row_of(const kernels::AttentionPart& part, std::size_t row, int head_dim);

}  // namespace lapidary
