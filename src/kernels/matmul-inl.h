// Quantised products. A stream is a token's int8 activations; activations in 16 bits are two, the
// high plane's and the low one's. The ISA says how many integer sums its registers
// hold:
//   kTile         streams of one panel, whose weights are unpacked in registers
//   kPlainPanels  panels that share each activation when their weights are unpacked before …
//   kPlainTokens  … and tokens of these
//   kFewRegisters whether there are too few for a tile's accumulators as well
#pragma once

#if LAPIDARY_BYTE_PRODUCTS == 2
#include "kernels/maddubs-inl.h"
#else
#include "kernels/dot-inl.h"
#endif
#include "kernels/float-inl.h"

// Panels are unpacked to scratch for this many tokens; for fewer, in registers and again for each
// tile.
inline constexpr int kUnpackTokens = 2 * kTile + 1;
static_assert(kUnpackTokens <= kGatherTokens);

// Which planes of its tokens a tile multiplies.
enum class Planes {
  kHigh,  // The high one.
  kBoth,  // That, and kLowShare times the product with the low one.
  kLow,   // kLowShare times the product with the low one, added to what is in `out`.
};

// Where some tokens' activations stand, block by block: token t's are t · columns (or blocks)
// further on.
template <Planes kPlanes>
struct InputCursor {
  ActivationPlane first;  // The low plane, of kLow; else the high one, …
  ActivationPlane low;    // … and of kBoth this beside it.
  const float* scales;
  const std::uint8_t* low_used;
  std::size_t blocks;  // Of one token.

  InputCursor(const QuantizedInput& in, int token) {
    const std::size_t block = in.blocks(token);
    blocks = in.blocks(1);
    first = (kPlanes == Planes::kLow ? in.low : in.high).from(block);
    scales = in.scales + block;
    if constexpr (kPlanes == Planes::kBoth) {
      low = in.low.from(block);
      low_used = in.low_used != nullptr ? in.low_used + block : nullptr;
    }
  }
  LAPIDARY_INLINE void step() {
    first = first.from(1);
    ++scales;
    if constexpr (kPlanes == Planes::kBoth) {
      low = low.from(1);
      if (low_used != nullptr) ++low_used;
    }
  }
  // Whether one of the next `tokens` tokens has a low block here.
  LAPIDARY_INLINE bool uses_low(int tokens) const {
    if constexpr (kPlanes != Planes::kBoth) return false;
    if (low_used == nullptr) return true;
    unsigned used = 0;
    for (int t = 0; t < tokens; ++t) used |= low_used[static_cast<std::size_t>(t) * blocks];
    return used != 0;
  }
};

// Has the accumulators of a tile lie in memory while a block is summed, where the registers are too
// few for both: compilers would rather keep them and move the integer sums in and out.
template <int kCells>
LAPIDARY_INLINE void leave_in_memory(Floats* acc) {
  if constexpr (kFewRegisters && kCells > 2)
    asm volatile("" : "+m"(*reinterpret_cast<Floats(*)[kCells]>(acc)));
}

// acc += one block of some panels and streams: acc and exact [panels][kTokens], of which exact's
// rows lie `stride` apart; scale(t) and scaled_sum(t) are the streams'.
template <Packing kPacking, int kPanels, int kTokens, class Scale, class ScaledSum>
LAPIDARY_INLINE void add_block(const BlockSum<kPacking>* exact, int stride, const BlockScales* s,
                               const Scale& scale, const ScaledSum& scaled_sum, Floats* acc) {
  for (int i = 0; i < kPanels * kTokens; ++i) {
    const int p = i / kTokens, t = i % kTokens;
    if constexpr (packed_traits(kPacking).scheme == Scheme::kHalfAffine) {
      const auto& sum = exact[p * stride + t];
      const Floats unit = broadcast(scale(t));
      acc[i] = fma(to_float(sum.values), mul(s[p].scale, unit), acc[i]);
      acc[i] = fma(to_float(sum.minimums), mul(s[p].offset, unit), acc[i]);
      continue;
    } else {
      acc[i] = fma(to_float(exact[p * stride + t]), mul(s[p].scale, broadcast(scale(t))), acc[i]);
    }
    if constexpr (packed_traits(kPacking).scheme == Scheme::kAffine)
      acc[i] = fma(s[p].offset, broadcast(scaled_sum(t)), acc[i]);
  }
}

// One block of a tile; kLow: with its low plane.
template <Packing kPacking, int kPanels, int kTokens, bool kLow, class Groups, Planes kPlanes>
LAPIDARY_INLINE void multiply_block(const Groups* groups, const BlockScales* s,
                                    const InputCursor<kPlanes>& x, Floats* acc, Floats* low_acc) {
  constexpr int kStreams = kLow ? 2 * kTokens : kTokens;
  const std::int8_t* values[kStreams];
  const std::int16_t* sums[kStreams];
  for (int t = 0; t < kTokens; ++t) {
    const std::size_t at = static_cast<std::size_t>(t) * x.blocks;
    values[t] = x.first.values + at * kBlock;
    sums[t] = x.first.sums + at * kBlockSums;
    if constexpr (kLow) {
      values[kTokens + t] = x.low.values + at * kBlock;
      sums[kTokens + t] = x.low.sums + at * kBlockSums;
    }
  }
  BlockSum<kPacking> exact[kPanels * kStreams];
  block_sums<kPacking, kPanels, kStreams>(groups, s, values, sums, exact);
  const auto at = [&](int t) { return static_cast<std::size_t>(t) * x.blocks; };
  const auto scale = [&](int t) { return x.scales[at(t)]; };
  leave_in_memory<kPanels * kTokens>(acc);
  add_block<kPacking, kPanels, kTokens>(
      exact, kStreams, s, scale, [&](int t) { return x.first.scaled_sums[at(t)]; }, acc);
  if constexpr (kLow) {
    leave_in_memory<kPanels * kTokens>(low_acc);
    add_block<kPacking, kPanels, kTokens>(
        exact + kTokens, kStreams, s, scale, [&](int t) { return x.low.scaled_sums[at(t)]; },
        low_acc);
  }
}

// high + kLowShare · low: the order on every path.
LAPIDARY_INLINE Floats join_planes(Floats high, Floats low) {
  return fma(low, broadcast(kLowShare), high);
}

// A tile: some tokens of some panels, whose blocks lie as `panels` [kPanels] says.
template <Packing kPacking, int kPanels, int kTokens, Planes kPlanes, class Blocks>
void multiply_tile(const MatmulArgs& a, const Blocks* panels, int token, float* out) {
  constexpr int kCells = kPanels * kTokens;
  InputCursor<kPlanes> x(*a.input, a.token_begin + token);
  Floats acc[kCells], low_acc[kCells];
  for (int i = 0; i < kCells; ++i) acc[i] = low_acc[i] = broadcast(0.0F);
  int b = 0;
  do {  // At least one: so the accumulators never have to be in memory.
    BlockScales s[kPanels];
    decltype(panels->groups(b)) groups[kPanels];
    for (int p = 0; p < kPanels; ++p) {
      s[p] = panels[p].scales(b);
      groups[p] = panels[p].groups(b);
    }
    if (kPlanes == Planes::kBoth && x.uses_low(kTokens)) {
      multiply_block<kPacking, kPanels, kTokens, kPlanes == Planes::kBoth>(groups, s, x, acc,
                                                                           low_acc);
    } else {
      multiply_block<kPacking, kPanels, kTokens, false>(groups, s, x, acc, low_acc);
    }
    x.step();
  } while (++b < a.columns / kBlock);
  for (int i = 0; i < kCells; ++i) {
    const auto t = static_cast<std::size_t>(token + i % kTokens);
    float* to = out + t * a.out_stride + i / kTokens * kPanelRows;
    if constexpr (kPlanes == Planes::kHigh) store(to, acc[i]);
    if constexpr (kPlanes == Planes::kBoth) store(to, join_planes(acc[i], low_acc[i]));
    if constexpr (kPlanes == Planes::kLow) store(to, join_planes(load(to), acc[i]));
  }
}

// Tokens [token, end) in tiles of kTokens, and what is left in smaller ones.
template <Packing kPacking, int kPanels, int kTokens, Planes kPlanes, class Blocks>
void multiply_tiles(const MatmulArgs& a, const Blocks* panels, int token, int end, float* out) {
  for (; token + kTokens <= end; token += kTokens)
    multiply_tile<kPacking, kPanels, kTokens, kPlanes>(a, panels, token, out);
  if constexpr (kTokens > 1)
    multiply_tiles<kPacking, kPanels, kTokens / 2, kPlanes>(a, panels, token, end, out);
}

// acc [kLowTokens][kPanels][16] += the products of some low blocks at one place.
template <Packing kPacking, int kPanels, int kCount, class Groups>
LAPIDARY_INLINE void add_low_blocks(const Groups* groups, const BlockScales* s, const LowBlock* low,
                                    const LowBlock* end, float* acc) {
  for (; low + kCount <= end; low += kCount) {
    const std::int8_t* values[kCount];
    const std::int16_t* sums[kCount];
    for (int i = 0; i < kCount; ++i) {
      values[i] = low[i].values;
      sums[i] = low[i].sums;
    }
    BlockSum<kPacking> exact[kPanels * kCount];
    block_sums<kPacking, kPanels, kCount>(groups, s, values, sums, exact);
    Floats sum[kPanels * kCount];
    const auto cell = [&](int i) {
      return acc + (low[i % kCount].token * kPanels + i / kCount) * kPanelRows;
    };
    for (int i = 0; i < kPanels * kCount; ++i) sum[i] = load(cell(i));
    add_block<kPacking, kPanels, kCount>(
        exact, kCount, s, [&](int i) { return low[i].scale; },
        [&](int i) { return low[i].scaled_sum; }, sum);
    for (int i = 0; i < kPanels * kCount; ++i) store(cell(i), sum[i]);
  }
  if constexpr (kCount > 1) add_low_blocks<kPacking, kPanels, kCount / 2>(groups, s, low, end, acc);
}

// Adds to `out` what the low planes of all tokens come to, where few blocks have one: kLowTokens
// after the other, and in it block by block, so that a block's weights are read once.
template <Packing kPacking, int kPanels, class Blocks>
void add_gathered_low(const MatmulArgs& a, const Blocks* panels, float* out) {
  const int blocks = a.columns / kBlock;
  alignas(64) float acc[kLowTokens * kPanels * kPanelRows];
  for (int first = 0; first < a.tokens; first += kLowTokens) {
    std::memset(acc, 0, sizeof acc);
    for (int b = 0; b < blocks; ++b) {
      const std::size_t bucket =
          static_cast<std::size_t>(first / kLowTokens * blocks) + static_cast<std::size_t>(b);
      const LowBlock* low = a.input->gathered.blocks + bucket * kLowTokens;
      if (a.input->gathered.counts[bucket] == 0) continue;
      BlockScales s[kPanels];
      decltype(panels->groups(b)) groups[kPanels];
      for (int p = 0; p < kPanels; ++p) {
        s[p] = panels[p].scales(b);
        groups[p] = panels[p].groups(b);
      }
      add_low_blocks<kPacking, kPanels, kPlainTokens>(groups, s, low,
                                                      low + a.input->gathered.counts[bucket], acc);
    }
    const int count = a.tokens - first < kLowTokens ? a.tokens - first : kLowTokens;
    for (int i = 0; i < count * kPanels; ++i) {
      float* to = out + static_cast<std::size_t>(first + i / kPanels) * a.out_stride +
                  i % kPanels * kPanelRows;
      store(to, join_planes(load(to), load(acc + i * kPanelRows)));
    }
  }
}

// All tokens of `count` panels that follow each other in the matrix. `blocks(i)` says how the
// blocks of the i-th lie.
template <Packing kPacking, bool k16Bits, class Panels>
void multiply_panels(const MatmulArgs& a, int count, const Panels& blocks) {
  constexpr int kFew = k16Bits ? kTile / 2 : kTile;
  constexpr Planes kPlanes = k16Bits ? Planes::kBoth : Planes::kHigh;
  static_assert(kPlainPanels <= kMostPlainPanels, "scratch has no room for them");
  static_assert(kPlainBlock<kPacking> <= most_plain_block_bytes());
  int p = 0;
  if (a.tokens >= kUnpackTokens) {
    const std::size_t bytes = static_cast<std::size_t>(a.columns / kBlock) * kPlainBlock<kPacking>;
    for (; p + kPlainPanels <= count; p += kPlainPanels) {
      PlainBlocks<kPacking> plain[kPlainPanels];
      for (int i = 0; i < kPlainPanels; ++i) {
        auto* scratch =
            reinterpret_cast<std::uint8_t*>(a.scratch) + static_cast<std::size_t>(i) * bytes;
        unpack_panel<kPacking>(blocks(p + i), a.columns / kBlock, scratch);
        plain[i] = {scratch};
      }
      float* out = a.out + p * kPanelRows;
      multiply_tiles<kPacking, kPlainPanels, kPlainTokens, Planes::kHigh>(a, plain, 0, a.tokens,
                                                                          out);
      if constexpr (k16Bits) {
        if (a.input->gathered.ready) {
          add_gathered_low<kPacking, kPlainPanels>(a, plain, out);
        } else {
          multiply_tiles<kPacking, kPlainPanels, kPlainTokens, Planes::kLow>(a, plain, 0, a.tokens,
                                                                             out);
        }
      }
    }
  }
  for (; p < count; ++p) {
    const auto panel = blocks(p);
    multiply_tiles<kPacking, 1, kFew, kPlanes>(a, &panel, 0, a.tokens, a.out + p * kPanelRows);
  }
}

template <Packing kPacking, bool k16Bits>
void matmul_quantized(const MatmulArgs& a) {
  const auto* first = reinterpret_cast<const std::uint8_t*>(a.panels);
  multiply_panels<kPacking, k16Bits>(a, a.panel_end - a.panel_begin, [&](int i) {
    const auto panel = static_cast<std::size_t>(a.panel_begin + i);
    return PackedBlocks<kPacking>{first + panel * a.panel_bytes};
  });
}
