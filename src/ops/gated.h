#pragma once

#include <cstddef>

#include "base/rows.h"
#include "base/team.h"
#include "ops/packed_matrix.h"

namespace lapidary {

/// Rows of gate and up that become one block of columns of their product.
inline constexpr int kGateRows = 2 * kernels::kPanelRows;

/// The two matrices of a gated unit, of the same shape.
struct GatedMatrices {
  const PackedMatrix& gate;
  const PackedMatrix& up;
};

/// What each thread needs for itself.
struct GatedScratch {
  Rows<float> gate;   // [tokens][kGateRows]
  Rows<float> up;     // [tokens][kGateRows]
  std::byte* matmul;  // matmul_scratch_bytes of the columns of `input`.
};

/// out = gelu_tanh(Wgate input) ⊙ (Wup input) for tokens [0, tokens), as a matrix reads it that is
/// `quantized` or not: in 16 bits, whose low plane only outlying blocks keep (drop_low_blocks),
/// gathered for the products of many tokens; or in fp32. For every worker of a team; ends with a
/// barrier.
void gated(Worker& worker, const kernels::Kernels& kernels, const LinearInput& input, int tokens,
           const GatedMatrices& matrices, const GatedScratch& scratch, bool quantized,
           LinearInput& out);

}  // namespace lapidary
