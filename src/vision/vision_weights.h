#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/memory.h"
#include "base/team.h"
#include "lapidary/stats.h"
#include "ops/bfp_matrix.h"
#include "vision/vision_config.h"

namespace lapidary {

/// A matrix with its bias, [rows].
struct BiasedMatrix {
  BfpMatrix matrix;
  const float* bias = nullptr;
};

struct LayerNorm {
  const float* weight = nullptr;  // [width]
  const float* bias = nullptr;    // [width]
};

struct VisionLayer {
  LayerNorm attention_norm;
  BiasedMatrix query, key, value, output;  // width × width
  LayerNorm ffn_norm;
  BiasedMatrix up;    // feed_forward × width
  BiasedMatrix down;  // width × feed_forward
};

/// Packed weights of one vision file; immutable, shared by all encoders.
struct VisionWeights {
  VisionConfig config;
  const kernels::Kernels* kernels = nullptr;
  BiasedMatrix patch;                // width × patch_values
  const float* positions = nullptr;  // [patches][width]
  std::vector<VisionLayer> layers;
  LayerNorm post_norm;
  const float* soft_norm = nullptr;  // [width]
  BfpMatrix projection;              // text_width × width
  Arena arena;
};

/// Bytes that the packed weights take. Throws Error(kFile) naming a tensor that is missing or has
/// another shape.
std::uint64_t vision_weight_bytes(const WeightSource& source, const VisionConfig& config);

/// One line that names the tensors that the encoder does not use; empty: it uses all. Throws
/// Error(kFile) for one of a layer.
std::string unused_vision_tensors(const WeightSource& source, const VisionConfig& config);

/// Reads and packs all weights; `progress` gets bytes of tensors, on the calling thread in its own
/// floating-point environment. Throws Error(kFile) naming the tensor (also for a value that is not
/// finite), Error(kMemory), Error(kInterrupted) once `cancel` is set.
std::unique_ptr<const VisionWeights> load_vision_weights(const WeightSource& source,
                                                         const VisionConfig& config,
                                                         const kernels::Kernels& kernels,
                                                         Team& team, const Progress& progress,
                                                         const std::atomic<bool>* cancel = nullptr);

}  // namespace lapidary
