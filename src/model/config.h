#pragma once

#include <vector>

#include "formats/weight_source.h"

namespace lapidary {

/// The shape of one Gemma 3 text model, all from metadata (docs/gemma3.md has the keys).
struct Config {
  int layers = 0;
  int width = 0;         // d
  int feed_forward = 0;  // ff
  int query_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int vocabulary = 0;  // Rows of the embedding.
  int trained_context = 0;
  int sliding_window = 0;   // Tokens that a local layer sees; 0: every layer is global.
  std::vector<bool> local;  // [layers]
  float norm_epsilon = 1e-6F;
  float global_rope_base = 1e6F;
  float global_rope_factor = 1.0F;  // Positions are divided by it on global layers.
  float local_rope_base = 1e4F;
  float query_scale = 0.0F;
  float logit_softcap = 0.0F;  // 0: none.
  // Not the file's: the head is laid out so that its best rows are found without reading all of it.
  bool screened_head = true;

  int query_width() const { return query_heads * head_dim; }
  int kv_width() const { return kv_heads * head_dim; }
};

/// Reads and checks it. Throws Error(kFile) naming the key that is missing, absurd or contradicts
/// another.
Config read_config(const WeightSource& source);

}  // namespace lapidary
