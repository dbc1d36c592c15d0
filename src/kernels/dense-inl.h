// Included after float-inl.h and prefetch-inl.h: matrices of 16-bit floats against fp32
// activations, one accumulator, k in order.

template <bool kHalf, int kTokens>
inline void dense_tile(const MatmulArgs& a, const std::uint8_t* panel, int token, float* out) {
  const float* x[kTokens];
  F acc[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    x[t] =
        a.dense_input + static_cast<std::size_t>(token + t) * static_cast<std::size_t>(a.columns);
    acc[t] = broadcast(0.0F);
  }
  for (int k = 0; k < a.columns; k += 2, panel += 64) {
    prefetch_ahead(panel, 1);
    FPair w;
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

template <bool kHalf>
void matmul_dense(const MatmulArgs& a) {
  for (int p = a.panel_begin; p < a.panel_end; ++p) {
    const auto* panel = reinterpret_cast<const std::uint8_t*>(
        a.panels + static_cast<std::size_t>(p) * a.panel_bytes);
    float* out = a.out + (p - a.panel_begin) * kPanelRows;
    int t = 0;
    for (; t + 4 <= a.tokens; t += 4) {
      dense_tile<kHalf, 4>(a, panel, a.token_begin + t,
                           out + static_cast<std::size_t>(t) * a.out_stride);
    }
    for (; t < a.tokens; ++t) {
      dense_tile<kHalf, 1>(a, panel, a.token_begin + t,
                           out + static_cast<std::size_t>(t) * a.out_stride);
    }
  }
}
