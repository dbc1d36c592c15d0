#pragma once

#include <vector>

#include "base/memory.h"
#include "model/config.h"
#include "model/decoder.h"
#include "ops/head_weights.h"
#include "ops/packed_matrix.h"

namespace lapidary {

/// One layer. Norm weights are fp32, [width] or [head_dim]; matrices are rows × columns.
struct LayerWeights {
  const float* attention_norm = nullptr;       // [width]
  const float* query_norm = nullptr;           // [head_dim]
  const float* key_norm = nullptr;             // [head_dim]
  const float* post_attention_norm = nullptr;  // [width]
  const float* ffn_norm = nullptr;             // [width]
  const float* post_ffn_norm = nullptr;        // [width]
  PackedMatrix query;                          // query_width × width
  PackedMatrix key;                            // kv_width × width
  PackedMatrix value;                          // kv_width × width
  PackedMatrix output;                         // width × query_width
  PackedMatrix gate;                           // feed_forward × width
  PackedMatrix up;                             // feed_forward × width
  PackedMatrix down;                           // width × feed_forward
};

struct Weights {
  Config config;
  const kernels::Kernels* kernels = nullptr;
  HeadWeights head;                    // vocabulary × width: embedding and output matrix
  const float* output_norm = nullptr;  // [width]
  std::vector<LayerWeights> layers;
  Arena arena;
};

}  // namespace lapidary
