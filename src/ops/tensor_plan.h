#pragma once

#include <atomic>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "base/memory.h"
#include "base/team.h"
#include "formats/weight_source.h"
#include "formats/zero_tail.h"
#include "lapidary/stats.h"
#include "ops/bfp_matrix.h"
#include "ops/head_weights.h"
#include "ops/packed_matrix.h"

namespace lapidary {

/// Which tensors of a source a model is made of, and what becomes of each. They are asked for
/// first, each with where it goes to: then all are known to be there with the right shapes, and can
/// be counted without reading one, or loaded. The source and all that is filled must outlive the
/// plan. One thread.
///
/// Throws Error(kFile) naming the tensor that is missing, has another shape, holds a value that is
/// not finite, or ends in zeros as an interrupted download does.
class TensorPlan {
 public:
  /// `reading` is what a cancel interrupts: "reading the model".
  TensorPlan(const WeightSource& source, const char* reading);
  ~TensorPlan();
  TensorPlan(TensorPlan&&) noexcept;

  using Shape = std::initializer_list<int>;  // As in TensorInfo.

  /// Values in fp32, which `out` will point to. Those of one dimension may not be quantised.
  void values(const TensorName& name, Shape shape, const float*& out);

  /// A matrix in the packing that its type has; of an embedding, whose end may be zeros, in that of
  /// heads.
  void matrix(const TensorName& name, int columns, int rows, PackedMatrix& out,
              bool embedding = false);

  /// The output matrix, whose end may be zeros, as shape_head() has it.
  void head(const TensorName& name, int columns, int rows, HeadWeights& out, bool searchable);

  /// A matrix in block floating point. `out` has its rows, columns and block already; where
  /// `transposed`, the tensor has a row for each of its columns.
  void matrix(const TensorName& name, Shape shape, BfpMatrix& out, bool transposed = false);

  /// What all that was asked for takes of an arena. To be asked before it is loaded.
  std::size_t bytes() const;

  /// One line that names the tensors of the source that were not asked for; empty where there are
  /// none. Throws for one of a layer: without it a layer would compute something else.
  std::string unused() const;

  /// Reads and packs everything into an arena, which the matrices and values then point into.
  /// `progress` gets bytes of tensors, on the calling thread in its own floating-point environment.
  /// Throws Error(kMemory), Error(kInterrupted) once `cancel` is set.
  Arena load(const kernels::Kernels& kernels, Team& team, const Progress& progress,
             const std::atomic<bool>* cancel) const;

  class Item;

 private:
  const TensorInfo& require(const TensorName& name, Shape shape) const;

  const WeightSource& source_;
  const char* reading_;
  std::vector<std::unique_ptr<Item>> items_;
};

}  // namespace lapidary
