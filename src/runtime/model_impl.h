#pragma once

#include <string>

#include "formats/weight_source.h"
#include "kernels/kernels.h"
#include "lapidary/model.h"
#include "lapidary/tokenizer.h"
#include "model/config.h"
#include "model/decoder.h"

namespace lapidary {

/// What Model::load leaves behind. Immutable once built.
class Model::Impl {
 public:
  Config config;
  ModelInfo info;
  std::string isa;
  Tokenizer tokenizer;
  WeightsPtr weights;
};

/// The kernels called `isa`; empty: what $LAPIDARY_ISA names, else the best ones that this machine
/// runs. Throws Error(kUsage) with the list of what this machine has.
const kernels::Kernels& select_kernels(const std::string& isa);

/// Throws Error(kFile) when `source` is no Gemma 3 text model.
void check_architecture(const WeightSource& source);

/// Reads the header's metadata and shapes only.
ModelInfo describe(const WeightSource& source, const Config& config);

}  // namespace lapidary
