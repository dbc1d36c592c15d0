#include <bit>
#include <cstring>
#include <string>

#include "formats/weight_source.h"
#include "lapidary/error.h"

// One function a type, from its block's bytes to fp32. The order of multiplications and additions
// defines the values; the project is built without contraction into fma.

namespace lapidary {

namespace {

static_assert(std::endian::native == std::endian::little, "files are read as they lie");

using Bytes = const std::byte*;

template <class T>
T load(Bytes from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

int u8(std::byte value) { return std::to_integer<int>(value); }
int low(std::byte value) { return u8(value) & 15; }
int high(std::byte value) { return u8(value) >> 4; }
float as_float(int value) { return static_cast<float>(value); }

/// IEEE half to single, exact, subnormals and infinities included. No floating-point operation, so
/// flush-to-zero does not matter.
float load_half(Bytes from) {
  const std::uint32_t half = load<std::uint16_t>(from);
  const std::uint32_t sign = (half & 0x8000U) << 16;
  const std::uint32_t exponent = (half >> 10) & 31U;
  std::uint32_t mantissa = half & 0x3FFU;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000U | (mantissa << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  if (mantissa == 0) return std::bit_cast<float>(sign);
  const auto shift = static_cast<std::uint32_t>(std::countl_zero(mantissa)) - 21U;
  mantissa = (mantissa << shift) & 0x3FFU;
  return std::bit_cast<float>(sign | ((113 - shift) << 23) | (mantissa << 13));
}

void decode_f32(Bytes in, float* out) { *out = load<float>(in); }
void decode_f16(Bytes in, float* out) { *out = load_half(in); }

void decode_bf16(Bytes in, float* out) {
  *out = std::bit_cast<float>(static_cast<std::uint32_t>(load<std::uint16_t>(in)) << 16);
}

void decode_q8_0(Bytes in, float* out) {
  const float scale = load_half(in);
  for (int i = 0; i < 32; ++i) out[i] = as_float(load<std::int8_t>(in + 2 + i)) * scale;
}

void decode_q4_0(Bytes in, float* out) {
  const float scale = load_half(in);
  for (int i = 0; i < 16; ++i) {
    out[i] = as_float(low(in[2 + i]) - 8) * scale;
    out[i + 16] = as_float(high(in[2 + i]) - 8) * scale;
  }
}

void decode_q4_1(Bytes in, float* out) {
  const float scale = load_half(in);
  const float min = load_half(in + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = as_float(low(in[4 + i])) * scale + min;
    out[i + 16] = as_float(high(in[4 + i])) * scale + min;
  }
}

/// Bit `i` of the 32 fifth bits, at its place of a 5-bit number.
int fifth(std::uint32_t bits, int i) { return static_cast<int>((bits >> i) & 1U) << 4; }

void decode_q5_0(Bytes in, float* out) {
  const float scale = load_half(in);
  const auto bits = load<std::uint32_t>(in + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = as_float((low(in[6 + i]) | fifth(bits, i)) - 16) * scale;
    out[i + 16] = as_float((high(in[6 + i]) | fifth(bits, i + 16)) - 16) * scale;
  }
}

void decode_q5_1(Bytes in, float* out) {
  const float scale = load_half(in);
  const float min = load_half(in + 2);
  const auto bits = load<std::uint32_t>(in + 4);
  for (int i = 0; i < 16; ++i) {
    out[i] = as_float(low(in[8 + i]) | fifth(bits, i)) * scale + min;
    out[i + 16] = as_float(high(in[8 + i]) | fifth(bits, i + 16)) * scale + min;
  }
}

struct ScaleAndMin {
  float scale;
  float min;
};

/// Group `group` of the 8 in a Q4_K or Q5_K block: 6-bit scales and mins packed in 12 bytes behind
/// two halves.
ScaleAndMin k_scale(Bytes block, int group) {
  const Bytes packed = block + 4;
  int scale = 0;
  int min = 0;
  if (group < 4) {
    scale = u8(packed[group]) & 63;
    min = u8(packed[group + 4]) & 63;
  } else {
    scale = low(packed[group + 4]) | (u8(packed[group - 4]) >> 6 << 4);
    min = high(packed[group + 4]) | (u8(packed[group]) >> 6 << 4);
  }
  return {load_half(block) * as_float(scale), load_half(block + 2) * as_float(min)};
}

void decode_q4_k(Bytes in, float* out) {
  for (int group = 0; group < 8; ++group) {
    const auto [scale, min] = k_scale(in, group);
    const Bytes quants = in + 16 + group / 2 * 32;
    for (int i = 0; i < 32; ++i) {
      const int q = group % 2 == 0 ? low(quants[i]) : high(quants[i]);
      out[group * 32 + i] = scale * as_float(q) - min;
    }
  }
}

void decode_q5_k(Bytes in, float* out) {
  const Bytes fifths = in + 16;
  for (int group = 0; group < 8; ++group) {
    const auto [scale, min] = k_scale(in, group);
    const Bytes quants = in + 48 + group / 2 * 32;
    for (int i = 0; i < 32; ++i) {
      const int q =
          (group % 2 == 0 ? low(quants[i]) : high(quants[i])) | ((u8(fifths[i]) >> group & 1) << 4);
      out[group * 32 + i] = scale * as_float(q) - min;
    }
  }
}

void decode_q6_k(Bytes in, float* out) {
  const Bytes scales = in + 192;
  const float super_scale = load_half(in + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128;
    const int part = i % 128 / 32;  // Which quarter of the half: its place in both bit planes.
    const int lane = i % 32;
    const std::byte four = in[half * 64 + part % 2 * 32 + lane];
    const int two = u8(in[128 + half * 32 + lane]) >> (2 * part) & 3;
    const int q = ((part < 2 ? low(four) : high(four)) | (two << 4)) - 32;
    const float scale = super_scale * as_float(load<std::int8_t>(scales + i / 16));
    out[i] = scale * as_float(q);
  }
}

using Decode = void (*)(Bytes in, float* out);

Decode find_decode(BlockType type) {
  switch (type) {
    case BlockType::kF32:
      return decode_f32;
    case BlockType::kF16:
      return decode_f16;
    case BlockType::kBF16:
      return decode_bf16;
    case BlockType::kQ8_0:
      return decode_q8_0;
    case BlockType::kQ4_0:
      return decode_q4_0;
    case BlockType::kQ4_1:
      return decode_q4_1;
    case BlockType::kQ5_0:
      return decode_q5_0;
    case BlockType::kQ5_1:
      return decode_q5_1;
    case BlockType::kQ4_K:
      return decode_q4_k;
    case BlockType::kQ5_K:
      return decode_q5_k;
    case BlockType::kQ6_K:
      return decode_q6_k;
  }
  return nullptr;
}

}  // namespace

void dequantize(BlockType type, std::span<const std::byte> bytes, std::span<float> out) {
  const BlockTraits* const traits = find_block_traits(type);
  const Decode decode = find_decode(type);
  if (traits == nullptr || decode == nullptr) {
    throw Error(ErrorCode::kUsage, "dequantize: type " +
                                       std::to_string(static_cast<std::uint32_t>(type)) +
                                       " is none that is read");
  }
  const std::size_t blocks = out.size() / traits->values;
  if (out.size() % traits->values != 0 || bytes.size() != blocks * traits->bytes) {
    throw Error(ErrorCode::kUsage, "dequantize: " + std::to_string(bytes.size()) + " bytes of " +
                                       std::string(traits->name) + " are not " +
                                       std::to_string(out.size()) + " values");
  }
  for (std::size_t i = 0; i < blocks; ++i) {
    decode(bytes.data() + i * traits->bytes, out.data() + i * traits->values);
  }
}

}  // namespace lapidary
