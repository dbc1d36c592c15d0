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

/// What 32 integers are multiplied by, the first sixteen and the others, and what is added to all.
struct Factors {
  float scale[2];
  float offset = 0;
};

Factors factors_of(const Scales& scales, const FileBlock& in) {
  const std::uint8_t* halves = scales.integers == 0 ? in.scales : in.header;
  const float scale = read_half(halves);
  if (scales.halves == 1 && scales.integers == 2) {
    return {{scale * static_cast<float>(static_cast<std::int8_t>(in.scales[0])),
             scale * static_cast<float>(static_cast<std::int8_t>(in.scales[1]))}};
  }
  const auto times = [&](float half, int i) {
    return i < scales.integers ? half * static_cast<float>(in.scales[i] - scales.bias) : half;
  };
  const float own = times(scale, 0);
  if (scales.halves == 1) return {{own, own}};
  const float second = times(read_half(halves + 2), 1);
  return {{own, own}, scales.integers == 0 ? second : -second};
}

void decode_block(const BlockTraits& traits, const std::uint8_t* block, float* out) {
  for (int part = 0; part < static_cast<int>(traits.values / 32); ++part, out += 32) {
    FileBlock in;
    traits.read(block, part, in);
    const Factors factors = factors_of(traits.scheme.scales, in);
    for (int i = 0; i < 32; ++i)
      out[i] = static_cast<float>(traits.scheme.value(in.q[i])) * factors.scale[i / 16];
    if (traits.scheme.scales.halves == 2) {  // Adding 0 would make 0 of -0.
      for (int i = 0; i < 32; ++i) out[i] += factors.offset;
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
