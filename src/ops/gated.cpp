#include "ops/gated.h"

#include <algorithm>

#include "ops/tokens.h"

namespace lapidary {
namespace {

constexpr int kGatherBlocks = 16;  // Blocks whose low planes one task gathers.

/// Columns [column, column + kGateRows) of a token.
void store_columns(const kernels::Kernels& kernels, const float* values, int column, bool quantized,
                   const LinearInput& out, int token) {
  if (quantized) {
    kernels.quantize16_columns(values, column, kGateRows, out.quantized, token);
  } else {
    std::copy_n(values, kGateRows, out.dense[token] + column);
  }
}

/// One task is some blocks of columns; `then` is run at the barrier.
void make_columns(Worker& worker, const kernels::Kernels& kernels, const LinearInput& input,
                  int tokens, const GatedMatrices& m, const GatedScratch& own, bool quantized,
                  const LinearInput& out, FunctionRef<void()> then) {
  const int blocks = m.gate.rows / kGateRows;
  const int step = std::max(1, panels_per_task(m.gate.panel_bytes(), tokens) / 4);
  const auto multiply = [&](const PackedMatrix& matrix, int block, const Rows<float>& product) {
    linear_panels(kernels, input, 0, tokens, matrix, 2 * block, 2 * block + 2, product, own.matmul);
  };
  const auto make = [&](int task) {
    for (int block = task * step; block < std::min(blocks, (task + 1) * step); ++block) {
      multiply(m.gate, block, own.gate);
      multiply(m.up, block, own.up);
      kernels.gelu_mul(own.gate.data, own.up.data, tokens * kGateRows);
      for (int t = 0; t < tokens; ++t)
        store_columns(kernels, own.gate[t], block * kGateRows, quantized, out, t);
    }
  };
  worker.for_each((blocks + step - 1) / step, make, then);
}

void gather_low(Worker& worker, const kernels::QuantizedInput& input, int tokens) {
  const int blocks = input.columns / kernels::kBlock;
  worker.for_each((blocks + kGatherBlocks - 1) / kGatherBlocks, [&](int task) {
    const int first = task * kGatherBlocks;
    kernels::gather_low_blocks(input, tokens, first, std::min(kGatherBlocks, blocks - first));
  });
}

}  // namespace

void gated(Worker& worker, const kernels::Kernels& kernels, const LinearInput& input, int tokens,
           const GatedMatrices& matrices, const GatedScratch& scratch, bool quantized,
           LinearInput& out) {
  const auto make = [&](FunctionRef<void()> then) {
    make_columns(worker, kernels, input, tokens, matrices, scratch, quantized, out, then);
  };
  if (!quantized) {
    make(kNothing);
    return;
  }
  const bool gather = tokens >= kernels::kGatherTokens;
  for_tokens_after(
      worker, tokens,
      [&](FunctionRef<void()> then) {
        make([&] {
          out.quantized.gathered.ready = gather;
          then();
        });
      },
      [&](int t) { kernels.drop_low_blocks(out.quantized, t); });
  if (gather) gather_low(worker, out.quantized, tokens);
}

}  // namespace lapidary
