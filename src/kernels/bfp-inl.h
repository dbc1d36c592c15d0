// Block floating point, and the float functions of the vision encoder. The ISA gives kBfpPanels and
// kBfpTile: panels and tokens of a tile in registers.
#pragma once

#include "kernels/float-inl.h"

// The first `count` < 16 floats of p, the rest zero.
inline Floats load_tail(const float* p, int count) {
  alignas(64) float lanes[16] = {};
  for (int i = 0; i < count; ++i) lanes[i] = p[i];
  return load(lanes);
}
inline void store_tail(float* p, Floats v, int count) {
  alignas(64) float lanes[16];
  store(lanes, v);
  for (int i = 0; i < count; ++i) p[i] = lanes[i];
}

// visit(i, count) for every sixteen lanes of n values, the last of which may have fewer.
template <class Visit>
LAPIDARY_INLINE void each_lanes(int n, Visit visit) {
  int i = 0;
  for (; i + 16 <= n; i += 16) visit(i, 16);
  if (i < n) visit(i, n - i);
}
LAPIDARY_INLINE Floats load_some(const float* p, int count) {
  return count == 16 ? load(p) : load_tail(p, count);
}
LAPIDARY_INLINE void store_some(float* p, Floats v, int count) {
  if (count == 16) {
    store(p, v);
  } else {
    store_tail(p, v, count);
  }
}

void layernorm(const float* x, const float* weight, const float* bias, int n, float epsilon,
               float* out) {
  Floats sum = broadcast(0.0F);
  each_lanes(n, [&](int i, int count) { sum = add(sum, load_some(x + i, count)); });
  const Floats mean = broadcast(reduce_add(sum) / static_cast<float>(n));
  Floats squares = broadcast(0.0F);
  each_lanes(n, [&](int i, int count) {
    Floats v = sub(load_some(x + i, count), mean);
    if (count < 16) {  // The lanes behind the end count nothing.
      alignas(64) float lanes[16];
      store(lanes, v);
      v = load_tail(lanes, count);
    }
    squares = fma(v, v, squares);
  });
  const Floats scale =
      broadcast(1.0F / std::sqrt(reduce_add(squares) / static_cast<float>(n) + epsilon));
  each_lanes(n, [&](int i, int count) {
    const Floats v = mul(sub(load_some(x + i, count), mean), scale);
    store_some(out + i, fma(v, load_some(weight + i, count), load_some(bias + i, count)), count);
  });
}

void bias_gelu(float* x, const float* bias, int n) {
  each_lanes(n, [&](int i, int count) {
    const Floats v = add(load_some(x + i, count), load_some(bias + i, count));
    store_some(x + i, gelu_tanh(v), count);
  });
}

void add_bias(float* x, const float* y, const float* bias, int n) {
  each_lanes(n, [&](int i, int count) {
    const Floats v = add(load_some(y + i, count), load_some(bias + i, count));
    store_some(x + i, add(load_some(x + i, count), v), count);
  });
}

// A largest value below this has no scale: its reciprocal would not be finite.
inline constexpr float kBfpSmallest = 1e-30F;

inline float bfp_scale(float top, float* inverse) {
  const bool some = top > kBfpSmallest;
  *inverse = some ? static_cast<float>(kBfpLevels) / top : 0.0F;
  return some ? top / static_cast<float>(kBfpLevels) : 0.0F;
}

LAPIDARY_INLINE void store_some_words(std::int16_t* p, Ints v, int count) {
  if (count == 16) return store_words(p, v);
  alignas(32) std::int16_t words[16];
  store_words(words, v);
  for (int i = 0; i < count; ++i) p[i] = words[i];
}

void bfp_quantize(const float* x, int n, int block, std::int16_t* values, float* scales) {
  for (int begin = 0; begin < n; begin += block, ++scales) {
    const int length = n - begin < block ? n - begin : block;
    Floats top = broadcast(0.0F);
    each_lanes(length, [&](int i, int count) {
      top = max(top, absolute(load_some(x + begin + i, count)));
    });
    float inverse;
    *scales = bfp_scale(reduce_max(top), &inverse);
    each_lanes(length, [&](int i, int count) {
      const Floats v = mul(load_some(x + begin + i, count), broadcast(inverse));
      store_some_words(values + begin + i, round_to_int(v), count);
    });
  }
}

void bfp_pack_columns(const float* x, std::size_t stride, int keys, std::int16_t* values,
                      float* scales) {
  for (int begin = 0; begin < keys; begin += kBfpBlock, scales += 16) {
    const int end = keys < begin + kBfpBlock ? keys : begin + kBfpBlock;
    const float* first = x + static_cast<std::size_t>(begin) * stride;
    Floats top = broadcast(0.0F);
    const float* row = first;
    for (int key = begin; key < end; ++key, row += stride) top = max(top, absolute(load(row)));
    alignas(64) float lanes[16], inverses[16];
    store(lanes, top);
    for (int i = 0; i < 16; ++i) scales[i] = bfp_scale(lanes[i], &inverses[i]);
    const Floats inverse = load(inverses);
    row = first;
    for (int key = begin; key < end; key += 2, row += 2 * stride, values += 32) {
      const Ints even = round_to_int(mul(load(row), inverse));
      const Ints odd = round_to_int(mul(load(row + stride), inverse));
      store_int(reinterpret_cast<std::int32_t*>(values), merge_pairs(even, odd));
    }
  }
}

// exp(x) for x ≤ 0, relative error under 3e-6: the rounding behind it is coarser by far.
inline Floats exp_weight(Floats x) {
  x = max(x, broadcast(-87.0F));
  const Ints n = round_to_int(mul(x, broadcast(1.44269504F)));
  const Floats r = fma(to_float(n), broadcast(-0.693147181F), x);
  Floats p = broadcast(1.0F / 120);  // Taylor to degree 5: |r| ≤ ln(2)/2.
  p = fma(p, r, broadcast(1.0F / 24));
  p = fma(p, r, broadcast(1.0F / 6));
  p = fma(p, r, broadcast(0.5F));
  p = fma(p, r, broadcast(1.0F));
  p = fma(p, r, broadcast(1.0F));
  return mul(p, power_of_two(n));
}

inline float exp_weight(float x) { return first_lane(exp_weight(broadcast(x))); }

inline float largest_score(const float* scores, int count) {
  Floats top = load(scores);
  for (int i = 16; i < count; i += 16) top = max(top, load(scores + i));
  return reduce_max(top);
}

float bfp_softmax(const float* scores, int keys, float* maximum, float* sum, std::int16_t* values,
                  float* scales) {
  const int blocks = (keys + kBfpBlock - 1) / kBfpBlock;
  float highest = *maximum;
  for (int b = 0; b < blocks; ++b) {  // Each block's largest score waits in its scale.
    const int left = keys - b * kBfpBlock;
    scales[b] = largest_score(scores + b * kBfpBlock, left < kBfpBlock ? left : kBfpBlock);
    highest = scales[b] > highest ? scales[b] : highest;
  }
  float added = 0.0F;
  for (int b = 0; b < blocks; ++b) {
    float inverse;
    scales[b] = bfp_scale(exp_weight(scales[b] - highest), &inverse);
    const int begin = b * kBfpBlock;
    const int end = keys < begin + kBfpBlock ? keys : begin + kBfpBlock;
    Ints total = broadcast_int(0);
    for (int i = begin; i < end; i += 16) {
      const Floats e = exp_weight(sub(load(scores + i), broadcast(highest)));
      const Ints v = round_to_int(mul(e, broadcast(inverse)));
      total = add(total, v);
      store_words(values + i, v);
    }
    // What the values sum to, not what the exponentials do: the weights then add up to one.
    added += scales[b] * reduce_add(to_float(total));
  }
  const float decay =
      *maximum == -std::numeric_limits<float>::infinity() ? 0.0F : exp_weight(*maximum - highest);
  *sum = *sum * decay + added;
  *maximum = highest;
  return decay;
}

inline constexpr int kBfpPrefetch = 4;

// One block of the panels from `panel` on.
struct BfpBlock {
  const BfpMatmulArgs& a;
  int panel;
  int index;

  int begin() const { return index * a.block; }
  int pairs() const {
    const int end = begin() + a.block;
    return ((a.columns < end ? a.columns : end) - begin()) / 2;
  }
  const std::int16_t* values(int p) const {
    const auto at = static_cast<std::size_t>(panel + p) * static_cast<std::size_t>(a.columns);
    return a.panels + (at + static_cast<std::size_t>(begin())) * 16;
  }
  Floats scale(int p) const {
    const int blocks = (a.columns + a.block - 1) / a.block;
    return load(a.panel_scales +
                (static_cast<std::size_t>(panel + p) * static_cast<std::size_t>(blocks) +
                 static_cast<std::size_t>(index)) *
                    16);
  }
};

// Some tokens against a block of some panels.
template <int kPanels, int kTokens>
LAPIDARY_INLINE void bfp_tile(const BfpBlock& block, int token) {
  const BfpMatmulArgs& a = block.a;
  const std::int16_t* x =
      a.values + static_cast<std::size_t>(token) * a.value_stride + block.begin();
  const std::int16_t* w[kPanels];
  for (int p = 0; p < kPanels; ++p) w[p] = block.values(p);
  Ints sums[kTokens][kPanels];
  LAPIDARY_UNROLL
  for (int i = 0; i < kTokens * kPanels; ++i) sums[i / kPanels][i % kPanels] = broadcast_int(0);
  const int pairs = block.pairs();
  for (int k = 0; k < pairs; ++k) {
    Ints weights[kPanels];
    LAPIDARY_UNROLL
    for (int p = 0; p < kPanels; ++p)
      weights[p] = load_int(reinterpret_cast<const std::int32_t*>(w[p] + 32 * k));
    LAPIDARY_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      std::int32_t pair;
      std::memcpy(&pair, x + static_cast<std::size_t>(t) * a.value_stride + 2 * k, 4);
      LAPIDARY_UNROLL
      for (int p = 0; p < kPanels; ++p) dot_pairs(sums[t][p], weights[p], pair);
    }
  }
  const bool add_to = block.index > 0 || a.accumulate;
  LAPIDARY_UNROLL
  for (int p = 0; p < kPanels; ++p) {
    const Floats panel_scale = block.scale(p);
    LAPIDARY_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      const auto at = static_cast<std::size_t>(token + t);
      float* to = a.out + at * a.out_stride + (block.panel + p) * kPanelRows;
      const Floats scale =
          mul(panel_scale,
              broadcast(a.scales[at * a.scale_stride + static_cast<std::size_t>(block.index)]));
      store(to, fma(to_float(sums[t][p]), scale, add_to ? load(to) : broadcast(0.0F)));
    }
  }
}

// Tokens from `token` on in tiles of kTokens, and what is left in smaller ones.
template <int kPanels, int kTokens>
inline void bfp_tiles(const BfpBlock& block, int token) {
  int line = 0;
  for (; token + kTokens <= block.a.tokens; token += kTokens) {
    // The next block is on its way before it is needed: a few lines of 64 bytes a tile.
    for (int end = line + kBfpPrefetch; line < end; ++line) {
      for (int p = 0; p < kPanels; ++p)
        __builtin_prefetch(block.values(p) + 32 * (block.pairs() + line));
    }
    bfp_tile<kPanels, kTokens>(block, token);
  }
  if constexpr (kTokens > 1) bfp_tiles<kPanels, kTokens / 2>(block, token);
}

// A block of some panels stays in the nearest cache while all tokens pass.
template <int kPanels>
inline void bfp_panels(const BfpMatmulArgs& a, int panel) {
  for (int b = 0; b * a.block < a.columns; ++b)
    bfp_tiles<kPanels, kBfpTile>(BfpBlock{a, panel, b}, 0);
}

void bfp_matmul(const BfpMatmulArgs& a) {
  int panel = 0;
  for (; panel + kBfpPanels <= a.panel_count; panel += kBfpPanels) bfp_panels<kBfpPanels>(a, panel);
  for (; panel < a.panel_count; ++panel) bfp_panels<1>(a, panel);
}
