#pragma once

#include <cstddef>

#include "ops/packed_matrix.h"
#include "ops/planes_matrix.h"

namespace lapidary {

/// The output matrix of a model, vocabulary × width, and its embedding, which mostly is the same.
/// Immutable once packed. Points into an arena that someone else owns.
struct HeadWeights {
  PackedMatrix panels;     // No rows: the planes are the matrix.
  PlanesMatrix planes;     // The matrix, or beside `panels` a copy in 8 bits that bounds its
                           // products; no rows: it is not searched.
  PackedMatrix embedding;  // No rows: the output matrix is the embedding.

  bool in_planes() const { return panels.rows == 0; }
  bool searchable() const { return planes.rows > 0; }
  int rows() const { return in_planes() ? planes.rows : panels.rows; }
  int panel_count() const { return in_planes() ? planes.panel_count() : panels.panel_count(); }
  std::size_t panel_bytes() const {
    return in_planes() ? planes.panel_bytes() : panels.panel_bytes();
  }
};

/// Gives the output matrix its shape; `searchable`: its best rows can be found without reading all
/// of it, as docs/decisions/0009-screened-head.md says.
void shape_head(HeadWeights& weights, BlockType type, int rows, int columns, bool searchable);

/// Row `row` of the embedding in fp32; `out` holds `width` floats.
void copy_row(const HeadWeights& weights, int row, float* out);

/// As linear_panels, of the output matrix. The input is in 16 bits where the matrix is quantised.
void head_panels(const kernels::Kernels& kernels, const LinearInput& input, int token_begin,
                 int tokens, const HeadWeights& weights, int begin, int end, const Rows<float>& out,
                 std::byte* scratch);

}  // namespace lapidary
