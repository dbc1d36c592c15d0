#include "formats/quantize.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "formats/quantize_k.h"

namespace lapidary {
namespace {

struct WeightType {
  std::string_view name;
  BlockType type;
};
constexpr WeightType kWeightTypes[] = {
    {"bf16", BlockType::kBF16}, {"f16", BlockType::kF16},   {"q8_0", BlockType::kQ8_0},
    {"q6_k", BlockType::kQ6_K}, {"q5_k", BlockType::kQ5_K}, {"q5_1", BlockType::kQ5_1},
    {"q5_0", BlockType::kQ5_0}, {"q4_k", BlockType::kQ4_K}, {"q4_1", BlockType::kQ4_1},
    {"q4_0", BlockType::kQ4_0},
};

using Byte = std::uint8_t;
constexpr int kValues = 32;  // Of a block.

/// Bits 0 … 3 of two integers a byte, as readers::split_nibbles reads them, and of five-bit ones
/// the last bit of all in a word in front.
void write_integers(const Byte* q, bool five_bits, Byte* to) {
  if (five_bits) {
    std::uint32_t high = 0;
    for (unsigned i = 0; i < kValues; ++i) high |= (q[i] >> 4 & 1U) << i;
    std::memcpy(to, &high, 4);
    to += 4;
  }
  for (int i = 0; i < kValues / 2; ++i)
    to[i] = static_cast<Byte>((q[i] & 15U) | (q[i + kValues / 2] & 15U) << 4);
}

float inverse(float scale) { return scale == 0 ? 0.0F : 1.0F / scale; }

bool q8_0(const float* x, Byte* out) {
  float most = 0;
  for (int i = 0; i < kValues; ++i) most = std::max(most, std::fabs(x[i]));
  const float scale = most / 127;
  const float factor = inverse(scale);
  for (int i = 0; i < kValues; ++i)
    out[2 + i] = static_cast<Byte>(static_cast<std::int8_t>(std::round(x[i] * factor)));
  return put_half(scale, out);
}

/// The value that is farthest from 0 becomes the lowest integer.
template <int kBits>
bool q_0(const float* x, Byte* out) {
  constexpr int kMiddle = 1 << (kBits - 1);
  float most = 0;
  for (int i = 0; i < kValues; ++i) {
    if (std::fabs(x[i]) > std::fabs(most)) most = x[i];
  }
  const float scale = most / -kMiddle;
  // One rounding, as with a fused product, which the reference has.
  const double factor = inverse(scale);
  Byte q[kValues];
  for (int i = 0; i < kValues; ++i) {
    const auto shifted = static_cast<float>(x[i] * factor + (kMiddle + 0.5));
    q[i] = static_cast<Byte>(std::min(static_cast<int>(shifted), 2 * kMiddle - 1));
  }
  write_integers(q, kBits == 5, out + 2);
  return put_half(scale, out);
}

/// The lowest value becomes 0, the highest the largest integer.
template <int kBits>
bool q_1(const float* x, Byte* out) {
  constexpr int kMost = (1 << kBits) - 1;
  const auto [low, high] = std::minmax_element(x, x + kValues);
  const float scale = (*high - *low) / kMost;
  const float factor = inverse(scale);
  Byte q[kValues];
  for (int i = 0; i < kValues; ++i)
    q[i] = static_cast<Byte>(
        std::min(static_cast<int>(std::floor((x[i] - *low) * factor + 0.5F)), kMost));
  write_integers(q, kBits == 5, out + 4);
  const float offset = *low;
  const bool fits = put_half(scale, out);
  return put_half(offset, out + 2) && fits;
}

bool f16(const float* x, Byte* out) { return put_half(*x, out); }

bool bf16(const float* x, Byte* out) {
  const auto bits = std::bit_cast<std::uint32_t>(*x);
  const auto rounded = static_cast<std::uint16_t>((bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16);
  std::memcpy(out, &rounded, 2);
  return (rounded & 0x7F80U) != 0x7F80U;
}

using Block = bool (*)(const float* values, Byte* out);
Block block_of(BlockType type) {
  switch (type) {
    case BlockType::kF16:
      return f16;
    case BlockType::kBF16:
      return bf16;
    case BlockType::kQ8_0:
      return q8_0;
    case BlockType::kQ4_0:
      return q_0<4>;
    case BlockType::kQ5_0:
      return q_0<5>;
    case BlockType::kQ4_1:
      return q_1<4>;
    case BlockType::kQ5_1:
      return q_1<5>;
    case BlockType::kQ4_K:
      return quantize_q4_k;
    case BlockType::kQ5_K:
      return quantize_q5_k;
    case BlockType::kQ6_K:
      return quantize_q6_k;
    default:
      return nullptr;
  }
}

}  // namespace

std::optional<BlockType> find_weight_type(std::string_view name) {
  for (const WeightType& row : kWeightTypes) {
    if (row.name == name) return row.type;
  }
  return {};
}

std::string weight_type_names() {
  std::string names;
  for (const WeightType& row : kWeightTypes) {
    if (!names.empty()) names += ", ";
    names += row.name;
  }
  return names;
}

std::uint16_t float_to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  std::uint32_t half;
  if (magnitude >= 0x7F800000U) {  // Infinite, or none.
    half = magnitude > 0x7F800000U ? 0x7E00U : 0x7C00U;
  } else if (magnitude < 0x38800000U) {  // Below the smallest normal one: multiples of 2^-24.
    half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) - 0x3F000000U;
  } else {  // To nearest, and to even between two; it may carry into the exponent.
    half = (magnitude - 0x38000000U + 0x0FFFU + (magnitude >> 13 & 1U)) >> 13;
    half = std::min(half, 0x7C00U);
  }
  return static_cast<std::uint16_t>(sign | half);
}

bool put_half(float value, Byte* to) {
  const std::uint16_t half = float_to_half(value);
  std::memcpy(to, &half, 2);
  return is_finite_half(half);
}

bool quantize(BlockType type, std::span<const float> values, std::span<std::byte> out) {
  const BlockTraits& traits = *find_block_traits(type);
  const Block block = block_of(type);
  // No integers are made of what is not finite, or far too large for an fp16 scale.
  const float most = type == BlockType::kBF16 ? 3e38F : 1e9F;
  bool good = std::ranges::all_of(values, [&](float v) { return v > -most && v < most; });
  auto* to = reinterpret_cast<Byte*>(out.data());
  for (std::size_t i = 0; good && i < values.size(); i += traits.values, to += traits.bytes)
    good = block(values.data() + i, to);
  return good;
}

}  // namespace lapidary
