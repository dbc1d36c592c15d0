#pragma once

#include <cstddef>
#include <cstdint>

/// What quantised products read: activations rounded to integers, in one plane of int8 or in two.
namespace lapidary::kernels {

inline constexpr int kBlock = 32;     // Values along k that share an activation scale.
inline constexpr int kBlockSums = 4;  // Sums of a block's activations that are kept with it.
// Activations in 16 bits: value = scale · (high + kLowShare · low), both within ±127.
inline constexpr int kHighBase = 254;
inline constexpr float kLowShare = 1.0F / kHighBase;
// Low planes are gathered for products of at least this many tokens, for so many at a time.
inline constexpr int kGatherTokens = 17;
inline constexpr int kLowTokens = 128;

/// Integers of some tokens. Token t's values begin at t · columns, its blocks at t · columns /
/// kBlock.
struct ActivationPlane {
  std::int8_t* values = nullptr;  // [tokens][columns], |value| ≤ 127
  // Of each block: the sum of the values where k mod 4 is 0 or 1, the sum of the others, and these
  // two of its first half alone.
  std::int16_t* sums = nullptr;  // [tokens][columns / 32][kBlockSums]
  float* scaled_sums = nullptr;  // [tokens][columns / 32]: scale · sum of the block.

  /// The plane from block `block` of all on.
  ActivationPlane from(std::size_t block) const {
    return {values + block * kBlock, sums + block * kBlockSums, scaled_sums + block};
  }
};

/// A block of a low plane, with all that a product needs of it on a cache line of its own.
struct alignas(64) LowBlock {
  std::int8_t values[kBlock];
  std::int16_t sums[kBlockSums];
  float scale, scaled_sum;
  std::int32_t token;  // Counted from the first of its kLowTokens.
};

/// Of each kLowTokens tokens and each block, the low blocks that are not all zero, by token; room
/// for all of them.
struct GatheredLow {
  LowBlock* blocks = nullptr;      // [tokens / kLowTokens][columns / 32][kLowTokens]
  std::uint8_t* counts = nullptr;  // [tokens / kLowTokens][columns / 32]
  bool ready = false;              // Whether products may rely on them; from token 0 on.
};

/// Activations of some tokens with one fp32 scale per kBlock values, in 8 bits (`high` alone) or in
/// 16 (both planes). Points into memory that someone else owns: place_input().
struct QuantizedInput {
  int columns = 0;
  float* scales = nullptr;  // [tokens][columns / 32], of both planes.
  ActivationPlane high;
  ActivationPlane low;  // nullptr in 8 bits.
  // [tokens][columns / 32]: 0 where a low block is all zero and need not be multiplied. nullptr:
  // none is known to be.
  std::uint8_t* low_used = nullptr;
  // [tokens][columns / 32]: of the values that a block was rounded from, to 16 bits. nullptr: not
  // wanted.
  float* squares = nullptr;
  GatheredLow gathered;  // What gather_low_blocks() fills in.

  bool in_16_bits() const { return low.values != nullptr; }

  /// Of so many tokens: also where the next one's begin.
  std::size_t blocks(int tokens) const {
    return static_cast<std::size_t>(tokens) * static_cast<std::size_t>(columns / kBlock);
  }
};

enum class ActivationBits : std::uint8_t {
  k8,
  k16,
  k16Sparse,  // With what it takes to leave low planes to few blocks, and to gather those.
};

/// Room for `tokens` tokens. `place.take<T>(count)` hands out that many T.
template <class Place>
QuantizedInput place_input(Place& place, int tokens, int columns, ActivationBits bits) {
  QuantizedInput in;
  in.columns = columns;
  const std::size_t blocks = in.blocks(tokens);
  const auto take_plane = [&] {
    ActivationPlane plane;
    plane.values = place.template take<std::int8_t>(blocks * kBlock);
    plane.sums = place.template take<std::int16_t>(blocks * kBlockSums);
    plane.scaled_sums = place.template take<float>(blocks);
    return plane;
  };
  in.scales = place.template take<float>(blocks);
  in.high = take_plane();
  if (bits != ActivationBits::k8) in.low = take_plane();
  if (bits == ActivationBits::k16Sparse) {
    const std::size_t gathered = in.blocks((tokens + kLowTokens - 1) / kLowTokens);
    in.squares = place.template take<float>(blocks);
    in.low_used = place.template take<std::uint8_t>(blocks);
    in.gathered.blocks = place.template take<LowBlock>(gathered * kLowTokens);
    in.gathered.counts = place.template take<std::uint8_t>(gathered);
  }
  return in;
}

/// Gathers the low blocks of tokens [0, tokens) in blocks [first, first + count) of their columns,
/// where `low_used` says that there are some.
void gather_low_blocks(const QuantizedInput& input, int tokens, int first, int count);

}  // namespace lapidary::kernels
