// Matrices of 16-bit floats against fp32 activations, one accumulator, k in order. The ISA gives
// kDenseTile, the tokens of a tile.
#pragma once

#include "kernels/float-inl.h"
#include "kernels/prefetch-inl.h"

template <bool kHalf, int kTokens>
inline void dense_tile(const MatmulArgs& a, const std::uint8_t* panel, int token, float* out) {
  const float* x[kTokens];
  Floats acc[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    x[t] =
        a.dense_input + static_cast<std::size_t>(token + t) * static_cast<std::size_t>(a.columns);
    acc[t] = broadcast(0.0F);
  }
  for (int k = 0; k < a.columns; k += 2, panel += 64) {
    prefetch_ahead(panel, 1);
    FloatPair w;
    if constexpr (kHalf) {
      w = {load_half(panel), load_half(panel + 32)};
    } else {
      w = load_bf16_pairs(reinterpret_cast<const std::uint16_t*>(panel));
    }
    for (int t = 0; t < kTokens; ++t) {
      acc[t] = fma(broadcast(x[t][k]), w.even, acc[t]);
      acc[t] = fma(broadcast(x[t][k + 1]), w.odd, acc[t]);
    }
  }
  for (int t = 0; t < kTokens; ++t) store(out + static_cast<std::size_t>(t) * a.out_stride, acc[t]);
}

// Tokens from `token` on in tiles of kTokens, and what is left in smaller ones.
template <bool kHalf, int kTokens>
void dense_tiles(const MatmulArgs& a, const std::uint8_t* panel, int token, float* out) {
  for (; token + kTokens <= a.tokens; token += kTokens) {
    dense_tile<kHalf, kTokens>(a, panel, a.token_begin + token,
                               out + static_cast<std::size_t>(token) * a.out_stride);
  }
  if constexpr (kTokens > 1) dense_tiles<kHalf, kTokens / 2>(a, panel, token, out);
}

template <bool kHalf>
void matmul_dense(const MatmulArgs& a) {
  for (int p = a.panel_begin; p < a.panel_end; ++p) {
    const auto* panel = reinterpret_cast<const std::uint8_t*>(
        a.panels + static_cast<std::size_t>(p) * a.panel_bytes);
    dense_tiles<kHalf, kDenseTile>(a, panel, 0, a.out + (p - a.panel_begin) * kPanelRows);
  }
}
