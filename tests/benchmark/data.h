#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/memory.h"
#include "kernels/kernels.h"

/// What the kernels are timed on: random, and numbers of ordinary size everywhere.
namespace lapidary {

/// A packing as benchmarks know it.
struct Form {
  kernels::Packing packing;
  std::string_view name;
  BlockType type;  // Of the file that it is packed from.
};
std::span<const Form> forms();

/// Some panels of a packed matrix. Of the packings in planes, `panels` are the top panels.
struct Matrix {
  const std::byte* panels;
  const std::byte* low;
  std::size_t panel_bytes;
  std::size_t low_bytes;  // Of a low (kQ8Top5: middle) panel; 0 where there is none.
  int panel_count;
  int columns;

  std::size_t bytes() const {
    return static_cast<std::size_t>(panel_count) * (panel_bytes + low_bytes);
  }
};

/// A matrix that fits the second-level cache. Made once; lives as long as the program.
const Matrix& cached_matrix(const Form& form, int columns);

/// Memory far larger than any cache, in huge pages. One for the whole program.
std::span<std::byte> large_memory();

/// All of large_memory() filled with panels; valid until it is filled with others.
const Matrix& streamed_matrix(const Form& form, int columns);

/// Activations of some tokens, in fp32 and quantised, in 8 or in 16 bits.
struct Activations {
  Activations(int tokens, int columns, bool in_16_bits);

  std::vector<float> values;  // [tokens][columns]
  Arena arena;
  kernels::QuantizedInput quantized;
};
/// Made once, as matrices are.
const Activations& activations(int tokens, int columns, bool in_16_bits);

/// Normally distributed with deviation `size`, none of it nearer to 0 than size / 1000.
std::vector<float> random_floats(std::size_t count, float size = 1.0F);
std::vector<std::uint16_t> random_bf16(std::size_t count);

}  // namespace lapidary
