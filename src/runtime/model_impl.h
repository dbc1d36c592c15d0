#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>

#include "formats/weight_source.h"
#include "kernels/kernels.h"
#include "lapidary/model.h"
#include "lapidary/tokenizer.h"
#include "model/config.h"
#include "model/decoder.h"
#include "runtime/kv_identity.h"
#include "vision/vision_config.h"

namespace lapidary {

class VisionPart;

/// What Model::load leaves behind. Immutable once built; the vision half guards what it reads
/// later.
class Model::Impl {
 public:
  Config config;
  ModelInfo info;
  std::string isa;
  Tokenizer tokenizer;
  WeightsPtr weights;
  std::unique_ptr<VisionPart> vision;  // nullptr: a text model.
  Digest fingerprint;

  Impl(Config c, ModelInfo i, std::string set, Tokenizer t, WeightsPtr w,
       std::unique_ptr<VisionPart> v, const Digest& f);
  ~Impl();

  /// vocabulary_digest() of the tokenizer, computed when first asked for.
  const Digest& vocabulary() const;

 private:
  mutable std::once_flag vocabulary_once_;
  mutable Digest vocabulary_{};
};

/// The kernels called `isa`; empty: what $LAPIDARY_ISA names, else the best ones that this machine
/// runs. Throws Error(kUsage) with the list of what this machine has.
const kernels::Kernels& select_kernels(const std::string& isa);

/// How many ids of `model` may be drawn: those that have a row and a piece of text. An image token
/// stands for features, which a drawn one has not; Gemma's is the last id, but for padding.
std::size_t drawable_ids(const Model& model);

/// The text model at `path`, its weights made into what `options` ask for. Throws Error(kUsage) for
/// a type that weights cannot be made into.
std::unique_ptr<WeightSource> open_text(const std::string& path, const ModelOptions& options);

/// Reads the header's metadata and shapes only.
ModelInfo describe(const WeightSource& source, const Config& config);

/// The same of the vision model at `path`.
VisionInfo describe_vision(const std::string& path, const WeightSource& source,
                           const VisionConfig& config);

}  // namespace lapidary
