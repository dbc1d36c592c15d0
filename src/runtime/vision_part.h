#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/team.h"
#include "formats/weight_source.h"
#include "kernels/kernels.h"
#include "lapidary/image_encoder.h"
#include "runtime/feature_cache.h"
#include "vision/vision_config.h"
#include "vision/vision_weights.h"

namespace lapidary {

/// The vision half of a model: its header from the start, its weights once a picture comes. Shared
/// by all encoders of the model, on all threads.
class VisionPart {
 public:
  /// Reads the header. Throws Error(kFile) also when the projector does not fit `model_width`, the
  /// width of the model that came from `model_path`.
  VisionPart(const std::string& path, const std::string& model_path, int model_width,
             const kernels::Kernels& kernels, const ModelOptions& options);

  const VisionInfo& info() const { return info_; }
  const VisionConfig& config() const { return config_; }
  const kernels::Kernels& kernels() const { return kernels_; }
  FeatureCache& cache() { return cache_; }

  /// The weights; the first caller reads them with its team, the others wait for it. `held` bytes
  /// count beside them against `memory_limit` (0: what the machine has). Throws Error(kInterrupted)
  /// once `cancel` is set.
  const VisionWeights& weights(Team& team, std::uint64_t held, std::uint64_t memory_limit,
                               const Progress& progress, const std::atomic<bool>* cancel = nullptr);

  /// What tells these weights from others; computed when first asked for. Throws Error(kFile).
  Digest fingerprint();

  /// What the features of `view` of a picture depend on, as one number; `picture` is its hash.
  /// Throws Error(kInterrupted).
  Digest key(const Digest& picture, const ImageView& view, const std::atomic<bool>* cancel);

 private:
  const std::vector<Digest>& file_digests(const std::atomic<bool>* cancel);

  std::unique_ptr<WeightSource> source_;
  VisionConfig config_;
  VisionInfo info_;
  const kernels::Kernels& kernels_;
  FeatureCache cache_;
  std::mutex mutex_;  // Of what follows.
  std::unique_ptr<const VisionWeights> weights_;
  std::vector<Digest> file_digests_;  // One a file, once they are asked for.
  std::optional<Digest> fingerprint_;
};

/// The hash of a picture's size and pixels. Throws Error(kInterrupted) once `cancel` is set.
Digest picture_digest(const Image& image, const std::atomic<bool>* cancel);

}  // namespace lapidary
