#include <bit>
#include <string>

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

Factors factors_of(Scales scales, const FileBlock& in) {
  switch (scales) {
    case Scales::kHalf: {
      const float scale = read_half(in.scales);
      return {{scale, scale}};
    }
    case Scales::kHalfPair: {
      const float scale = read_half(in.scales);
      return {{scale, scale}, read_half(in.scales + 2)};
    }
    case Scales::kSuperPair: {
      const float scale = read_half(in.header) * static_cast<float>(in.scales[0]);
      const float minimum = read_half(in.header + 2) * static_cast<float>(in.scales[1]);
      return {{scale, scale}, -minimum};
    }
    case Scales::kSuperHalves: {
      const float scale = read_half(in.header);
      return {{scale * static_cast<float>(static_cast<std::int8_t>(in.scales[0])),
               scale * static_cast<float>(static_cast<std::int8_t>(in.scales[1]))}};
    }
  }
  return {};
}

/// Whether an offset is added: adding 0 would make 0 of -0.
bool has_offset(Scales scales) {
  return scales == Scales::kHalfPair || scales == Scales::kSuperPair;
}

void decode_block(const BlockTraits& traits, const std::uint8_t* block, float* out) {
  for (int part = 0; part < static_cast<int>(traits.values / 32); ++part, out += 32) {
    FileBlock in;
    traits.read(block, part, in);
    const Factors factors = factors_of(traits.scheme.scales, in);
    for (int i = 0; i < 32; ++i)
      out[i] = static_cast<float>(block_value(traits.scheme, in.q[i])) * factors.scale[i / 16];
    if (has_offset(traits.scheme.scales)) {
      for (int i = 0; i < 32; ++i) out[i] += factors.offset;
    }
  }
}

}  // namespace

void dequantize(BlockType type, std::span<const std::byte> bytes, std::span<float> out) {
  const BlockTraits* const traits = find_block_traits(type);
  if (traits == nullptr) {
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
    if (traits->read == nullptr) {
      out[i] = read_float(type, bytes.data() + i * traits->bytes, 0);
    } else {
      decode_block(*traits, reinterpret_cast<const std::uint8_t*>(bytes.data()) + i * traits->bytes,
                   out.data() + i * traits->values);
    }
  }
}

}  // namespace lapidary
