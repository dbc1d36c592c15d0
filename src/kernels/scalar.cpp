#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/half.h"
#include "kernels/isa.h"
#include "kernels/pack.h"
#include "kernels/split.h"

// The plain reference: float code over sixteen lanes of an array, and quantised matmuls as the
// contract in kernels.h says them.
namespace lapidary::kernels {
namespace {

struct Floats {
  float lane[16];
};
struct Ints {
  std::int32_t lane[16];
};

#define LAPIDARY_EACH_LANE(type, expression)             \
  type out;                                              \
  for (int i = 0; i < 16; ++i) out.lane[i] = expression; \
  return out

inline Floats load(const float* p) { LAPIDARY_EACH_LANE(Floats, p[i]); }
inline void store(float* p, const Floats& v) { std::memcpy(p, v.lane, sizeof v.lane); }
inline void store_int(std::int32_t* p, const Ints& v) { std::memcpy(p, v.lane, sizeof v.lane); }
inline Floats broadcast(float v) { LAPIDARY_EACH_LANE(Floats, v); }
inline Ints broadcast_int(int v) { LAPIDARY_EACH_LANE(Ints, v); }
inline Floats add(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_LANE(Floats, x.lane[i] + y.lane[i]);
}
inline Floats sub(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_LANE(Floats, x.lane[i] - y.lane[i]);
}
inline Floats mul(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_LANE(Floats, x.lane[i] * y.lane[i]);
}
inline Floats div(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_LANE(Floats, x.lane[i] / y.lane[i]);
}
inline Floats max(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_LANE(Floats, x.lane[i] > y.lane[i] ? x.lane[i] : y.lane[i]);
}
inline Floats min(const Floats& x, const Floats& y) {
  LAPIDARY_EACH_LANE(Floats, x.lane[i] < y.lane[i] ? x.lane[i] : y.lane[i]);
}
inline Floats fma(const Floats& x, const Floats& y, const Floats& z) {
  LAPIDARY_EACH_LANE(Floats, std::fma(x.lane[i], y.lane[i], z.lane[i]));
}
inline Floats absolute(const Floats& x) { LAPIDARY_EACH_LANE(Floats, std::fabs(x.lane[i])); }
inline Ints sub(const Ints& x, const Ints& y) { LAPIDARY_EACH_LANE(Ints, x.lane[i] - y.lane[i]); }
inline Ints mul(const Ints& x, const Ints& y) { LAPIDARY_EACH_LANE(Ints, x.lane[i] * y.lane[i]); }
inline Floats to_float(const Ints& x) { LAPIDARY_EACH_LANE(Floats, static_cast<float>(x.lane[i])); }
// What fits no integer becomes the least one, as on x86; NaN too.
inline std::int32_t round_to_int(float x) {
  const float rounded = std::nearbyint(x);
  const bool fits = rounded >= -0x1p31F && rounded < 0x1p31F;
  return fits ? static_cast<std::int32_t>(rounded) : std::numeric_limits<std::int32_t>::min();
}
inline Ints round_to_int(const Floats& x) { LAPIDARY_EACH_LANE(Ints, round_to_int(x.lane[i])); }
inline Floats power_of_two(const Ints& n) {
  LAPIDARY_EACH_LANE(Floats,
                     std::bit_cast<float>(static_cast<std::uint32_t>(n.lane[i] + 127) << 23));
}
inline Floats load_half(const std::uint8_t* p) {
  Floats out;
  for (int i = 0; i < 16; ++i) {
    std::uint16_t half;
    std::memcpy(&half, p + 2 * i, 2);
    out.lane[i] = half_to_float(half);
  }
  return out;
}
inline float reduce_add(Floats x) {
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) x.lane[i] += x.lane[i + width];
  }
  return x.lane[0];
}
inline float reduce_max(const Floats& x) {
  float top = x.lane[0];
  for (float v : x.lane) top = v > top ? v : top;
  return top;
}

// Writes a block's int8 values and their sums, as kBlockSums says, and returns the sum of all.
inline int narrow_block(const Ints& first, const Ints& second, std::int8_t* values,
                        std::int16_t* sums) {
  int pairs[2] = {}, first_pairs[2] = {};
  for (int i = 0; i < 16; ++i) {
    values[i] = static_cast<std::int8_t>(first.lane[i]);
    values[i + 16] = static_cast<std::int8_t>(second.lane[i]);
    first_pairs[i / 2 % 2] += first.lane[i];
    pairs[i / 2 % 2] += first.lane[i] + second.lane[i];
  }
  for (int i = 0; i < 2; ++i) {
    sums[i] = static_cast<std::int16_t>(pairs[i]);
    sums[i + 2] = static_cast<std::int16_t>(first_pairs[i]);
  }
  return pairs[0] + pairs[1];
}

#include "kernels/float-inl.h"
#include "kernels/prefetch-inl.h"

inline FloatPair load_bf16_pairs(const std::uint16_t* p) {
  FloatPair out;
  for (int i = 0; i < 16; ++i) {
    out.even.lane[i] = bf16_to_float(p[2 * i]);
    out.odd.lane[i] = bf16_to_float(p[2 * i + 1]);
  }
  return out;
}

inline constexpr int kAttentionChains = 4;
inline constexpr int kRowTile = 4;
#include "kernels/attention-inl.h"

inline constexpr int kDenseTile = 4;
inline constexpr int kBfpPanels = 1;
inline constexpr int kBfpTile = 4;

inline Ints load_int(const std::int32_t* p) { LAPIDARY_EACH_LANE(Ints, p[i]); }
inline Ints add(const Ints& x, const Ints& y) { LAPIDARY_EACH_LANE(Ints, x.lane[i] + y.lane[i]); }
inline void dot_pairs(Ints& sum, const Ints& w, std::int32_t x) {
  std::int16_t v[2];
  std::memcpy(v, &x, 4);
  for (int i = 0; i < 16; ++i) {
    std::int16_t row[2];
    std::memcpy(row, &w.lane[i], 4);
    sum.lane[i] += row[0] * v[0] + row[1] * v[1];
  }
}
inline void store_words(std::int16_t* p, const Ints& v) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<std::int16_t>(v.lane[i]);
}
inline Ints merge_pairs(const Ints& even, const Ints& odd) {
  Ints out;
  for (int i = 0; i < 16; ++i) {
    const std::int16_t pair[2] = {static_cast<std::int16_t>(even.lane[i]),
                                  static_cast<std::int16_t>(odd.lane[i])};
    std::memcpy(&out.lane[i], pair, 4);
  }
  return out;
}

#include "kernels/bfp-inl.h"
#include "kernels/dense-inl.h"

int dot(const int* w, const std::int8_t* x) {
  int sum = 0;
  for (int k = 0; k < kBlock; ++k) sum += w[k] * x[k];
  return sum;
}

// A row's product with one part of the activations: one block more.
template <Packing kPacking>
float add_block(const RowBlock& w, const std::int8_t* values, float scale, float scaled_sum,
                float acc) {
  acc = std::fma(static_cast<float>(dot(w.values, values)), w.scale * scale, acc);
  if (packed_traits(kPacking).scheme == Scheme::kAffine) acc = std::fma(w.offset, scaled_sum, acc);
  return acc;
}

// `read(panel, block, row, RowBlock&)` gives a row's share of a block.
template <Packing kPacking, bool kWide, class Read>
void matmul_rows(const MatmulArgs& a, Read read) {
  const QuantizedInput& in = *a.input;
  const int blocks = a.columns / kBlock;
  for (int row = 0; row < (a.panel_end - a.panel_begin) * kPanelRows; ++row) {
    const auto panel = static_cast<std::size_t>(a.panel_begin + row / kPanelRows);
    for (int t = 0; t < a.tokens; ++t) {
      float high = 0.0F, low = 0.0F;
      for (int b = 0; b < blocks; ++b) {
        RowBlock w;
        read(panel, b, row % kPanelRows, w);
        const std::size_t at = first_block(in, a.token_begin + t) + static_cast<std::size_t>(b);
        high = add_block<kPacking>(w, in.values + at * kBlock, in.scales[at], in.scaled_sums[at],
                                   high);
        if (kWide)
          low = add_block<kPacking>(w, in.low + at * kBlock, in.scales[at], in.low_scaled_sums[at],
                                    low);
      }
      a.out[static_cast<std::size_t>(t) * a.out_stride + static_cast<std::size_t>(row)] =
          kWide ? std::fma(low, kLowShare, high) : high;
    }
  }
}

template <Packing kPacking, bool kWide>
void matmul_quantized(const MatmulArgs& a) {
  matmul_rows<kPacking, kWide>(a, [&](std::size_t panel, int block, int row, RowBlock& out) {
    read_row_block(kPacking, a.panels + panel * a.panel_bytes, block, row, out);
  });
}

template <Packing kPacking, bool kWide>
void matmul_split(const MatmulArgs& a) {
  const SplitLayout layout(kPacking, a.columns);
  const auto read = [&](std::size_t panel, int block, int row, RowBlock& out) {
    read_split_block(layout, a.panels + panel * layout.top_bytes(),
                     a.low + panel * layout.low_bytes(), block, row, out);
  };
  matmul_rows<kPacking, kWide>(a, read);
}

template <bool kWide>
void matmul_top5(const MatmulArgs& a) {
  const SplitLayout layout(Packing::kQ8Split, a.columns);
  const auto read = [&](std::size_t panel, int block, int row, RowBlock& out) {
    read_top5_block(a.panels + panel * layout.top_bytes(), a.low + panel * layout.middle_bytes(),
                    block, row, out);
  };
  matmul_rows<Packing::kQ8Top5, kWide>(a, read);
}

std::uint64_t int8_peak(std::uint64_t iterations) {
  int w[kBlock];
  std::int8_t x[kBlock];
  for (int k = 0; k < kBlock; ++k) {
    w[k] = k;
    x[k] = static_cast<std::int8_t>(k - 16);
  }
  int sum = 0;
  for (std::uint64_t i = 0; i < iterations; ++i) {
    sum += dot(w, x);
    asm volatile("" : "+r"(sum) : "r"(w), "r"(x) : "memory");
  }
  return iterations * kBlock * 2;
}

inline Ints load_u8_rows(const std::uint8_t* p) { LAPIDARY_EACH_LANE(Ints, p[i]); }
template <int kBits>
inline Ints shift_right(const Ints& x) {  // Of lanes that are not negative.
  LAPIDARY_EACH_LANE(Ints, x.lane[i] >> kBits);
}
// The lanes, which are not negative, at most 255 each.
inline void store_bytes(std::uint8_t* p, const Ints& x) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<std::uint8_t>(x.lane[i] < 255 ? x.lane[i] : 255);
}

inline Ints mask_lanes(const Ints& x, int mask) { LAPIDARY_EACH_LANE(Ints, x.lane[i] & mask); }
inline Ints bound_sum(const Ints& sum, const std::uint8_t* bounds, const std::int8_t* norms) {
  Ints out = sum;
  for (int i = 0; i < 64; ++i) out.lane[i / 4] += bounds[i] * norms[i % 4];
  return out;
}
template <int kField>
inline Ints pair_sum(const Ints& sum, const std::uint8_t* pairs, const std::int8_t* x) {
  Ints out = sum;
  for (int i = 0; i < 64; ++i) out.lane[i / 4] += (pairs[i] >> 2 * kField & 3) * x[i];
  return out;
}

#include "kernels/resample-inl.h"
#include "kernels/screen-inl.h"
#include "kernels/table-inl.h"

}  // namespace

const Kernels kScalarKernels = make_table("scalar");

}  // namespace lapidary::kernels
