#pragma once

// Integers in picture files. Each needs `at` and the bytes after it to lie in `bytes`.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace lapidary {

using ByteSpan = std::span<const std::uint8_t>;

inline std::uint32_t u16_le(ByteSpan bytes, std::size_t at) {
  return bytes[at] | static_cast<std::uint32_t>(bytes[at + 1]) << 8;
}
inline std::uint32_t u32_le(ByteSpan bytes, std::size_t at) {
  return u16_le(bytes, at) | u16_le(bytes, at + 2) << 16;
}
inline std::uint32_t u16_be(ByteSpan bytes, std::size_t at) {
  return static_cast<std::uint32_t>(bytes[at]) << 8 | bytes[at + 1];
}
inline std::uint32_t u32_be(ByteSpan bytes, std::size_t at) {
  return u16_be(bytes, at) << 16 | u16_be(bytes, at + 2);
}

/// Whether `text` stands at `at`; false where the bytes end before.
inline bool stands_at(ByteSpan bytes, std::size_t at, std::string_view text) {
  if (at > bytes.size() || text.size() > bytes.size() - at) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (bytes[at + i] != static_cast<std::uint8_t>(text[i])) return false;
  }
  return true;
}

}  // namespace lapidary
