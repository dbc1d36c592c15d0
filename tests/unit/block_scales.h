#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "formats/blocks.h"

namespace lapidary {

/// Gives a block of a file the 16-bit floats that `half()` says, in the order in which they lie;
/// MXFP4, which has an exponent alone, one of half()'s size.
template <class Half>
void set_scales(const BlockTraits& type, std::byte* block, Half half) {
  if (type.type == BlockType::kIQ1_M) {  // A nibble at the end of each of four words.
    const unsigned bits = half();
    for (unsigned i = 0; i < 4; ++i) {
      std::byte& byte = block[49 + 2 * i];
      byte = (byte & std::byte{15}) | static_cast<std::byte>((bits >> 4 * i & 15U) << 4);
    }
  } else if (type.type == BlockType::kMXFP4) {
    block[0] = static_cast<std::byte>(113U + (half() >> 10 & 31U));
  }
  for (const int offset : type.halves) {
    if (offset < 0) continue;
    const std::uint16_t bits = half();
    std::memcpy(block + offset, &bits, 2);
  }
}

}  // namespace lapidary
