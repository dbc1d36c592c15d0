// What a model computes in floats, beside products and attention. Written once over sixteen lanes,
// so that every ISA computes the same bits.
#pragma once

#include "kernels/vocabulary-inl.h"

struct FloatPair {
  Floats even, odd;
};

LAPIDARY_INLINE FloatPair load_bf16_pairs(const std::uint16_t* p) {
  return {load_even_bf16(p), load_odd_bf16(p)};
}

// exp(x), relative error under 2e-7 between -87 and 88; x is clamped to that range.
inline Floats exp_lanes(Floats x) {
  x = min(max(x, broadcast(-87.0F)), broadcast(88.0F));
  const Ints n = round_to_int(mul(x, broadcast(1.44269504F)));
  const Floats nf = to_float(n);
  Floats r = fma(nf, broadcast(-0.693359375F), x);  // Cody–Waite: ln 2 in two parts.
  r = fma(nf, broadcast(2.12194440e-4F), r);
  Floats p = broadcast(1.0F / 5040);  // Taylor to degree 7: |r| ≤ ln(2)/2.
  p = fma(p, r, broadcast(1.0F / 720));
  p = fma(p, r, broadcast(1.0F / 120));
  p = fma(p, r, broadcast(1.0F / 24));
  p = fma(p, r, broadcast(1.0F / 6));
  p = fma(p, r, broadcast(0.5F));
  p = fma(p, r, broadcast(1.0F));
  p = fma(p, r, broadcast(1.0F));
  return mul(p, power_of_two(n));
}

inline float inverse_rms(const float* x, int n, float epsilon) {
  Floats sum = broadcast(0.0F);
  for (int i = 0; i < n; i += 16) {
    const Floats v = load(x + i);
    sum = fma(v, v, sum);
  }
  return 1.0F / std::sqrt(reduce_add(sum) / static_cast<float>(n) + epsilon);
}

void rmsnorm(const float* x, const float* weight, int n, float epsilon, float* out) {
  const Floats scale = broadcast(inverse_rms(x, n, epsilon));
  for (int i = 0; i < n; i += 16) store(out + i, mul(mul(load(x + i), scale), load(weight + i)));
}

void rmsnorm_add(const float* y, const float* weight, int n, float epsilon, float* x) {
  const Floats scale = broadcast(inverse_rms(y, n, epsilon));
  for (int i = 0; i < n; i += 16)
    store(x + i, add(load(x + i), mul(mul(load(y + i), scale), load(weight + i))));
}

void rope(float* x, const float* cosine, const float* sine, int n) {
  float* y = x + n / 2;
  for (int j = 0; j < n / 2; j += 16) {
    const Floats a = load(x + j), b = load(y + j), c = load(cosine + j), s = load(sine + j);
    store(x + j, sub(mul(a, c), mul(b, s)));
    store(y + j, add(mul(b, c), mul(a, s)));
  }
}

// gelu_tanh(x) = x / 2 · (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2/pi) · (x + 0.044715 x³)
inline Floats gelu_tanh(Floats x) {
  const Floats cubic = fma(mul(x, x), mul(x, broadcast(0.044715F)), x);
  const Floats e = exp_lanes(mul(cubic, broadcast(-1.59576912F)));
  return div(x, add(broadcast(1.0F), e));
}

inline float first_lane(Floats x) {
  alignas(64) float lanes[16];
  store(lanes, x);
  return lanes[0];
}

void gelu_mul(float* gate, const float* up, int n) {
  for (int i = 0; i < n; i += 16) store(gate + i, mul(gelu_tanh(load(gate + i)), load(up + i)));
}

// The largest 16-bit activation: one more would round to 128 in the high plane.
inline constexpr float k16BitLevels = 254.0F * 127 + 126;

// Scale and inverse scale of one block of 32, whose largest value becomes `levels`: 127 or
// k16BitLevels.
inline float block_scale(const float* x, float levels, float* inverse) {
  const Floats largest = max(absolute(load(x)), absolute(load(x + 16)));
  const float top = reduce_max(largest);
  *inverse = top > 0.0F ? levels / top : 0.0F;
  return top / levels;
}

inline void quantize_block(const float* x, const QuantizedInput& out, std::size_t block) {
  float inverse;
  const float scale = block_scale(x, 127.0F, &inverse);
  const ActivationPlane to = out.high.from(block);
  const int sum =
      narrow_block(round_to_int(mul(load(x), broadcast(inverse))),
                   round_to_int(mul(load(x + 16), broadcast(inverse))), to.values, to.sums);
  out.scales[block] = scale;
  *to.scaled_sums = scale * static_cast<float>(sum);
}

void quantize_columns(const float* x, int first, int count, const QuantizedInput& out, int token) {
  const std::size_t base = out.blocks(token) + static_cast<std::size_t>(first / kBlock);
  for (int b = 0; b < count / kBlock; ++b)
    quantize_block(x + b * kBlock, out, base + static_cast<std::size_t>(b));
}

void quantize(const float* x, int columns, const QuantizedInput& out, int token) {
  quantize_columns(x, 0, columns, out, token);
}

inline void quantize16_block(const float* x, const QuantizedInput& out, std::size_t block) {
  float inverse;
  const float scale = block_scale(x, k16BitLevels, &inverse) * kHighBase;
  Ints high[2], low[2];
  for (int half = 0; half < 2; ++half) {
    const Ints rounded = round_to_int(mul(load(x + 16 * half), broadcast(inverse)));
    high[half] = round_to_int(mul(to_float(rounded), broadcast(1.0F / kHighBase)));
    low[half] = sub(rounded, mul(high[half], broadcast_int(kHighBase)));
  }
  const ActivationPlane to_high = out.high.from(block), to_low = out.low.from(block);
  const int high_sum = narrow_block(high[0], high[1], to_high.values, to_high.sums);
  const int low_sum = narrow_block(low[0], low[1], to_low.values, to_low.sums);
  out.scales[block] = scale;
  *to_high.scaled_sums = scale * static_cast<float>(high_sum);
  *to_low.scaled_sums = scale * static_cast<float>(low_sum);
  if (out.squares == nullptr) return;
  const Floats first = load(x), second = load(x + 16);
  out.squares[block] = reduce_add(fma(second, second, mul(first, first)));
}

void quantize16_columns(const float* x, int first, int count, const QuantizedInput& out,
                        int token) {
  const std::size_t base = out.blocks(token) + static_cast<std::size_t>(first / kBlock);
  for (int b = 0; b < count / kBlock; ++b)
    quantize16_block(x + b * kBlock, out, base + static_cast<std::size_t>(b));
}

void quantize16(const float* x, int columns, const QuantizedInput& out, int token) {
  quantize16_columns(x, 0, columns, out, token);
}

// A block keeps its low plane where its largest value is above so many times the token's root mean
// square: elsewhere the rounding to 8 bits adds little beside the values (docs/decisions/0006).
inline constexpr float kLowPeak = 5.0F;

void drop_low_blocks(const QuantizedInput& out, int token) {
  const std::size_t begin = out.blocks(token), end = out.blocks(token + 1);
  float squares = 0.0F;
  for (std::size_t b = begin; b < end; ++b) squares += out.squares[b];
  const float least =
      kLowPeak / 127.0F * std::sqrt(squares / static_cast<float>(out.columns) + 1e-30F);
  for (std::size_t b = begin; b < end; ++b) {
    const bool used = out.scales[b] >= least;
    out.low_used[b] = used ? 1 : 0;
    if (used) continue;
    const ActivationPlane low = out.low.from(b);
    std::memset(low.values, 0, kBlock);
    std::memset(low.sums, 0, kBlockSums * sizeof(std::int16_t));
    *low.scaled_sums = 0.0F;
  }
}
