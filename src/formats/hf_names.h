#pragma once

#include <string>
#include <string_view>

#include "formats/weight_source.h"

namespace lapidary {

/// A tensor's name in a folder, without what the releases of transformers put in front of it.
struct HfName {
  bool vision = false;    // Of the tower or its projector.
  std::string_view name;  // "layers.0.mlp.up_proj.weight"; of a tower "encoder.layers.0.…"; of the
                          // projector "multi_modal_projector.…". Points into the whole.
};
HfName split_hf_name(std::string_view whole);

/// What a folder calls the tensor, without what stands in front; empty for a part that the text
/// model, or the tower, has not.
std::string hf_name(const TensorName& name, bool vision);

/// Whether these are the weights of an RMSNorm, which a folder has less 1.
bool is_rms_norm(const HfName& name);

/// Whether a layer cannot be computed without it, if its name is right.
bool is_of_layer(const HfName& name);

}  // namespace lapidary
