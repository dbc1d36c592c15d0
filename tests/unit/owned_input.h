#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "kernels/activations.h"

namespace lapidary {

/// A kernels::QuantizedInput with its memory, for tests of the kernels. Copies own theirs.
class OwnedInput {
 public:
  OwnedInput(int tokens, int columns)
      : memory_(place(nullptr, tokens, columns) + 64), tokens_(tokens) {
    void* begin = memory_.data();
    std::size_t space = memory_.size();
    place(static_cast<std::byte*>(std::align(64, space - 64, begin, space)), tokens, columns);
  }
  OwnedInput(const OwnedInput& other) : OwnedInput(other.tokens_, other.view.columns) {
    std::ranges::copy(other.values, values.begin());
    std::ranges::copy(other.low, low.begin());
    std::ranges::copy(other.sums, sums.begin());
    std::ranges::copy(other.low_sums, low_sums.begin());
    std::ranges::copy(other.scales, scales.begin());
    std::ranges::copy(other.scaled_sums, scaled_sums.begin());
    std::ranges::copy(other.low_scaled_sums, low_scaled_sums.begin());
    std::ranges::copy(other.low_used, low_used.begin());
    std::ranges::copy(other.squares, squares.begin());
  }
  OwnedInput& operator=(const OwnedInput&) = delete;

  /// Fills in what follows from `values`, `low` and `scales`.
  void finish() {
    for (std::size_t b = 0; b < scales.size(); ++b) {
      scaled_sums[b] = scales[b] * static_cast<float>(sum_block(view.high.from(b)));
      low_scaled_sums[b] = scales[b] * static_cast<float>(sum_block(view.low.from(b)));
    }
  }

  // In 16 bits; `low_used`, `squares` and the gathered blocks are there and not pointed at.
  kernels::QuantizedInput view;
  std::span<std::int8_t> values, low;
  std::span<std::int16_t> sums, low_sums;
  std::span<float> scales, scaled_sums, low_scaled_sums, squares;
  std::span<std::uint8_t> low_used;
  kernels::GatheredLow gathered;

 private:
  struct Place {
    template <class T>
    T* take(std::size_t count) {
      std::byte* const piece = begin == nullptr ? nullptr : begin + bytes;
      bytes += (count * sizeof(T) + 63) / 64 * 64;
      return reinterpret_cast<T*>(piece);
    }
    std::byte* begin;
    std::size_t bytes = 0;
  };

  /// The bytes that it takes.
  std::size_t place(std::byte* begin, int tokens, int columns) {
    Place at{begin};
    view = kernels::place_input(at, tokens, columns, kernels::ActivationBits::k16Sparse);
    const std::size_t blocks = view.blocks(tokens);
    values = {view.high.values, blocks * kernels::kBlock};
    low = {view.low.values, blocks * kernels::kBlock};
    sums = {view.high.sums, blocks * kernels::kBlockSums};
    low_sums = {view.low.sums, blocks * kernels::kBlockSums};
    scales = {view.scales, blocks};
    scaled_sums = {view.high.scaled_sums, blocks};
    low_scaled_sums = {view.low.scaled_sums, blocks};
    squares = {view.squares, blocks};
    low_used = {view.low_used, blocks};
    gathered = view.gathered;
    view.squares = nullptr;
    view.low_used = nullptr;
    view.gathered = {};
    return at.bytes;
  }

  static int sum_block(const kernels::ActivationPlane& block) {
    int of[kernels::kBlockSums] = {};
    for (int i = 0; i < kernels::kBlock; ++i) {
      of[i / 2 % 2] += block.values[i];
      if (i < kernels::kBlock / 2) of[2 + i / 2 % 2] += block.values[i];
    }
    for (int j = 0; j < kernels::kBlockSums; ++j) block.sums[j] = static_cast<std::int16_t>(of[j]);
    return of[0] + of[1];
  }

  std::vector<std::byte> memory_;
  int tokens_;
};

}  // namespace lapidary
