#pragma once

#include <bit>
#include <cstdint>

#include "formats/blocks.h"

namespace lapidary::kernels {

/// Rounds to nearest, ties to even. A NaN stays one. (bf16_to_float is in formats/blocks.h.)
inline std::uint16_t float_to_bf16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

}  // namespace lapidary::kernels
