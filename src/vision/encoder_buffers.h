#pragma once

#include <vector>

#include "base/layout.h"
#include "ops/bfp_matrix.h"
#include "vision/vision_config.h"

namespace lapidary {

inline constexpr int kTokenBlock = 128;  // Tokens that one task of a matrix product takes.
inline constexpr int kQueryBlock = 48;   // Query rows of one attention task, and …
inline constexpr int kKeySegment = 512;  // … keys that it looks at together: they stay in L2.

/// Keys of one head as the rows of a matrix whose columns are the head's values, and values as the
/// rows of one whose columns are the keys, cut into segments of kKeySegment keys.
struct HeadCache {
  BfpMatrix keys;        // patches × head_dim
  std::int16_t* values;  // [segments][dim panels][segment's keys / 2][16][2]
  float* value_scales;   // [segments][dim panels][segment's blocks][16]
};

/// What each thread needs for itself.
struct EncoderScratch {
  float* out;            // [kTokenBlock][widest group of columns]
  float* row;            // [width] or [patch values]
  std::int16_t* words;   // [16][head_dim]
  Rows<float> scores;    // [kQueryBlock][kKeySegment]
  BfpRows weights;       // [kQueryBlock] of kKeySegment
  Rows<float> attended;  // [kQueryBlock][dim panels · 16]
  float* maximum;        // [kQueryBlock]
  float* sum;            // [kQueryBlock]
};

/// Everything between the layers. d is the encoder's width.
struct EncoderBuffers {
  Rows<float> x;                        // [patches][d]: the residual stream
  BfpRows normed;                       // [patches] of d
  BfpRows queries;                      // [patches] of d, a scale for each head
  BfpRows attended;                     // The same
  std::vector<HeadCache> heads;         // Keys and values
  BfpRows hidden;                       // [patches] of feed_forward, or of a patch's pixels
  BfpRows pixels;                       // In the same memory as `hidden`.
  BfpRows pooled;                       // [tokens] of d
  std::vector<EncoderScratch> scratch;  // One a thread
};

/// Rows of 16 head values, the last of which may be part of nothing.
inline int dim_panels(const VisionConfig& c) {
  return (c.head_dim + kernels::kPanelRows - 1) / kernels::kPanelRows;
}

/// Heads whose columns one task of the first product takes: whole panels, if that can be.
int heads_per_task(const VisionConfig& c);

EncoderBuffers make_encoder_buffers(Layout& layout, const VisionConfig& c, int threads);

/// Bytes that make_encoder_buffers takes.
std::size_t encoder_buffer_bytes(const VisionConfig& c, int threads);

}  // namespace lapidary
