#pragma once

#include <array>

#include "formats/weight_source.h"

namespace lapidary {

/// The shape of one SigLIP encoder and its projector, all from the metadata of a source.
struct VisionConfig {
  int image_size = 0;  // Pixels on a side.
  int patch_size = 0;
  int width = 0;
  int feed_forward = 0;
  int layers = 0;
  int heads = 0;
  int head_dim = 0;
  int pool = 0;        // Patches on a side that are averaged to one soft token.
  int text_width = 0;  // Of the projector's output.
  float norm_epsilon = 1e-6F;
  std::array<float, 3> mean{0.5F, 0.5F, 0.5F};  // Of red, green and blue, in 0 … 1.
  std::array<float, 3> deviation{0.5F, 0.5F, 0.5F};

  int patches_per_side() const { return image_size / patch_size; }
  int patches() const { return patches_per_side() * patches_per_side(); }
  int tokens_per_side() const { return patches_per_side() / pool; }
  int tokens() const { return tokens_per_side() * tokens_per_side(); }
};

/// Reads and checks it. Throws Error(kFile) naming the key that is missing, absurd or contradicts
/// another.
VisionConfig read_vision_config(const WeightSource& source);

}  // namespace lapidary
