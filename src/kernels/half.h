#pragma once

#include <bit>
#include <cstdint>

#include "formats/blocks.h"

namespace lapidary::kernels {

using lapidary::bf16_to_float;  // formats/blocks.h has the way back.
using lapidary::half_to_float;

/// Rounds to nearest, ties to even. A NaN stays one.
inline std::uint16_t float_to_bf16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

/// The smallest bf16 that is at least `value`, which is not negative and no NaN.
inline std::uint16_t bf16_above(float value) {
  return static_cast<std::uint16_t>((std::bit_cast<std::uint32_t>(value) + 0xFFFFU) >> 16);
}

}  // namespace lapidary::kernels
