#pragma once

#include <optional>
#include <string>

#include "formats/weight_source.h"
#include "kernels/kernels.h"
#include "lapidary/model.h"
#include "lapidary/tokenizer.h"
#include "model/config.h"
#include "model/decoder.h"
#include "vision/vision_config.h"

namespace lapidary {

/// What Model::load leaves behind. Immutable once built.
class Model::Impl {
 public:
  Config config;
  ModelInfo info;
  std::string isa;
  Tokenizer tokenizer;
  WeightsPtr weights;
  std::optional<VisionInfo> vision_info;  // Without a vision file: empty.
};

/// The kernels called `isa`; empty: what $LAPIDARY_ISA names, else the best ones that this machine
/// runs. Throws Error(kUsage) with the list of what this machine has.
const kernels::Kernels& select_kernels(const std::string& isa);

/// Throws Error(kFile) when `source` is no Gemma 3 text model.
void check_architecture(const WeightSource& source);

/// Reads the header's metadata and shapes only.
ModelInfo describe(const WeightSource& source, const Config& config);

/// The same of a vision file; `weight_bytes` is left 0.
VisionInfo describe_vision(const WeightSource& source, const VisionConfig& config);

/// Reads the header of the vision file `path`. Throws Error(kFile) also when its projector does not
/// fit the width of the model, which came from `model_path`.
VisionInfo read_vision_info(const std::string& path, const std::string& model_path,
                            int model_width);

}  // namespace lapidary
