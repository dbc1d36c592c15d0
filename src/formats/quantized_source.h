#pragma once

#include <memory>

#include "formats/weight_source.h"

namespace lapidary {

/// `source`, a text model, with the matrices of its layers, its embedding and its head made into
/// `type` as they are read, a few rows at a time: beside what is read nothing is kept of a tensor.
/// Norms stay, and so does what the files have quantised already.
///
/// A head is worth more bits: where `type` is quantised, the output matrix becomes Q6_K, or Q8_0
/// where that is the type. Matrices whose columns fill no blocks of 256 become the next larger type
/// with 32: Q5_0 for Q4_K, Q5_1 for Q5_K, Q8_0 for Q6_K (docs/decisions/0030-folders.md).
std::unique_ptr<WeightSource> quantize_source(std::unique_ptr<WeightSource> source, BlockType type);

}  // namespace lapidary
