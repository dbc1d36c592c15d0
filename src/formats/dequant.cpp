#include <bit>
#include <string>

#include "base/format.h"
#include "formats/weight_source.h"
#include "lapidary/error.h"

// The values of a block from its integers and scales, as the list in blocks.h says. The order of
// multiplications and additions defines the values; the project is built without contraction into
// fma.

namespace lapidary {

namespace {

static_assert(std::endian::native == std::endian::little, "files are read as they lie");

/// What 32 integers are multiplied by, and what is then added: the first sixteen, and the others.
struct Factors {
  float scale[2];
  float offset[2] = {};
};

/// Of one of two sixteens where both have a scale of their own.
float half_scale(const Scales& scales, float scale, std::uint8_t s) {
  const int value = scales.form == ScaleForm::kPairs || scales.form == ScaleForm::kOctets
                        ? s & 15
                        : static_cast<std::int8_t>(s);
  return scale * static_cast<float>(value);
}

Factors factors_of(const Scales& scales, const FileBlock& in) {
  const std::uint8_t* halves = scales.integers == 0 ? in.scales : in.header;
  if (scales.form == ScaleForm::kBrain) {
    const float own = bf16_to_float(load_u16(halves));
    return {{own, own}};
  }
  const float scale = read_half(halves) * scales.unit;
  if (scales.nibbles()) {
    const bool shifted = scales.form == ScaleForm::kShifts;
    const float own = scale * static_cast<float>(2 * (in.scales[0] & (shifted ? 7 : 15)) + 1);
    const float offset = shifted ? own * ((in.scales[0] & 8) != 0 ? -0.125F : 0.125F) : 0.0F;
    return {{own, own}, {offset, offset}};
  }
  if (scales.form == ScaleForm::kPairs) {
    const float minimum = read_half(halves + 2);
    const auto less = [&](int i) { return -(minimum * static_cast<float>(in.scales[i] >> 4)); };
    return {{half_scale(scales, scale, in.scales[0]), half_scale(scales, scale, in.scales[1])},
            {less(0), less(1)}};
  }
  if (scales.halves == 1 && scales.integers == 2) {
    return {{half_scale(scales, scale, in.scales[0]), half_scale(scales, scale, in.scales[1])}};
  }
  const auto times = [&](float half, int i) {
    return i < scales.integers ? half * static_cast<float>(in.scales[i] - scales.bias) : half;
  };
  const float own = times(scale, 0);
  if (scales.halves == 1) return {{own, own}};
  const float second = times(read_half(halves + 2), 1);
  const float offset = scales.integers == 0 ? second : -second;
  return {{own, own}, {offset, offset}};
}

void decode_block(const BlockTraits& traits, const std::uint8_t* block, float* out) {
  const bool has_offset =
      traits.scheme.scales.halves == 2 || traits.scheme.scales.form == ScaleForm::kShifts;
  for (int part = 0; part < static_cast<int>(traits.values / 32); ++part, out += 32) {
    FileBlock in;
    traits.read(block, part, in);
    const Factors factors = factors_of(traits.scheme.scales, in);
    for (int i = 0; i < 32; ++i)
      out[i] = static_cast<float>(traits.scheme.value(in.q[i])) * factors.scale[i / 16];
    if (has_offset) {  // Adding 0 would make 0 of -0.
      for (int i = 0; i < 32; ++i) out[i] += factors.offset[i / 16];
    }
  }
}

}  // namespace

void dequantize(BlockType type, std::span<const std::byte> bytes, std::span<float> out) {
  const BlockTraits* const traits = find_block_traits(type);
  if (traits == nullptr) {
    throw Error(ErrorCode::kUsage, format("dequantize: type {} is none that is read",
                                          static_cast<std::uint32_t>(type)));
  }
  const std::size_t blocks = out.size() / traits->values;
  if (out.size() % traits->values != 0 || bytes.size() != blocks * traits->bytes) {
    throw Error(ErrorCode::kUsage, format("dequantize: {} bytes of {} are not {} values",
                                          bytes.size(), traits->name, out.size()));
  }
  for (std::size_t i = 0; i < blocks; ++i) {
    if (traits->read == nullptr) {
      out[i] = read_float(type, bytes.data() + i * traits->bytes, 0);
    } else {
      decode_block(*traits, reinterpret_cast<const std::uint8_t*>(bytes.data()) + i * traits->bytes,
                   out.data() + i * traits->values);
    }
  }
}

}  // namespace lapidary
