#pragma once

#include <cstdint>

namespace lapidary {

// A block of 256 values in the types that have two levels of scales. False where a scale is too
// large for fp16. See quantize().
bool quantize_q4_k(const float* values, std::uint8_t* out);
bool quantize_q5_k(const float* values, std::uint8_t* out);
bool quantize_q6_k(const float* values, std::uint8_t* out);

/// The nearest IEEE binary16; beyond its range, infinity.
std::uint16_t float_to_half(float value);

/// Writes it; false where it is not finite.
bool put_half(float value, std::uint8_t* to);

}  // namespace lapidary
