// What a screened head does beyond products. Its sums, bound_sum and two_bit_sum, are beside those
// of blocks.
#pragma once

#include "kernels/float-inl.h"
#if LAPIDARY_BYTE_PRODUCTS > 1
#include "kernels/matmul-inl.h"
#endif

float screen_panel(const std::byte* bounds, const ScreenInput& x, const float* estimates,
                   float* upper) {
  const int groups = (x.blocks + 3) / 4;
  Ints sums = broadcast_int(0);
  for (int g = 0; g < groups; ++g)
    sums = bound_sum(sums, reinterpret_cast<const std::uint8_t*>(bounds) + 64 * g, x.norms + 4 * g);
  const Floats units = load(reinterpret_cast<const float*>(bounds + 64 * groups));
  const Floats estimate = load(estimates);
  store(upper, fma(to_float(sums), mul(units, broadcast(x.norm_unit)), estimate));
  return reduce_max(estimate);
}

float screen_row(const std::byte* low, int row, const ScreenInput& x) {
  const SplitLayout layout(Packing::kQ8Split, x.blocks * kBlock);
  const auto* panel = reinterpret_cast<const std::uint8_t*>(low);
  const std::uint8_t* bytes = panel + layout.low_row(row);
  const std::uint8_t* scales = panel + layout.row_scales(row);
  Floats sum = broadcast(0.0F);
  for (int first = 0; first < x.blocks; first += 16, scales += 32) {
    alignas(64) float scale[16];
    store(scale, load_half(scales));  // May read on into the rests, no further.
    const int end = first + 16 < x.blocks ? first + 16 : x.blocks;
    for (int b = first; b < end; ++b) {
      const Ints nibbles = mask_lanes(load_u8_rows(bytes + 16 * b), x.mask);
      Floats block = fma(to_float(nibbles), load(x.low + 16 * b), load(x.centre + 16 * b));
      block = fma(to_float(shift_right<4>(nibbles)), load(x.high + 16 * b), block);
      sum = fma(block, broadcast(scale[b - first]), sum);
    }
  }
  return reduce_add(sum);
}

template <int kField>
LAPIDARY_INLINE void add_two_bits(const std::uint8_t* bits, const TwoBitInput& x, Ints& high,
                                  Ints& low) {
  if constexpr (kField < 4) {
    high = two_bit_sum<kField>(high, bits, x.high[kField]);
    low = two_bit_sum<kField>(low, bits, x.low[kField]);
    add_two_bits<kField + 1>(bits, x, high, low);
  }
}

// 256 values at a time, whose sixteen half blocks are the lanes.
float screen_two_bit_row(const std::byte* low, int row, const ScreenInput& x) {
  const SplitLayout layout(Packing::kQ6Split, x.blocks * kBlock);
  const auto* panel = reinterpret_cast<const std::uint8_t*>(low);
  const std::uint8_t* bytes = panel + layout.low_row(row);
  const std::uint8_t* half_scales = panel + layout.row_scales(row);
  const std::uint8_t* scales = half_scales + 2 * layout.count();
  Floats sum = broadcast(0.0F);
  const int supers = x.blocks / 8;
  for (int first = 0; first < supers; first += 16, scales += 32) {
    alignas(64) float scale[16];
    store(scale, load_half(scales));  // May read on into the rests, no further.
    const int end = first + 16 < supers ? first + 16 : supers;
    for (int s = first; s < end; ++s) {
      const TwoBitInput& part = x.two_bits[s];
      Ints high_sum = broadcast_int(0), low_sum = high_sum;
      add_two_bits<0>(bytes + 64 * s, part, high_sum, low_sum);
      const Floats both = fma(to_float(low_sum), broadcast(kLowShare), to_float(high_sum));
      const Floats half_scale =
          sub(to_float(load_u8_rows(half_scales + 16 * s)), broadcast(128.0F));
      const Floats unit = mul(mul(half_scale, load(part.scales)), broadcast(scale[s - first]));
      sum = fma(sub(both, load(part.centres)), unit, sum);
    }
  }
  return reduce_add(sum);
}
