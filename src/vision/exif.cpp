// The orientation in EXIF blocks.

#include <algorithm>

#include "vision/bytes.h"
#include "vision/decode.h"

namespace lapidary {

namespace {

using namespace std::string_view_literals;

constexpr std::uint32_t kOrientationTag = 0x0112;
constexpr std::uint32_t kShort = 3;
constexpr std::uint32_t kLong = 4;
constexpr std::size_t kEntryBytes = 12;

}  // namespace

int exif_orientation(ByteSpan exif) {
  if (stands_at(exif, 0, "Exif\0\0"sv)) exif = exif.subspan(6);
  const bool little = stands_at(exif, 0, "II*\0"sv);
  if (exif.size() < 8 || (!little && !stands_at(exif, 0, "MM\0*"sv))) return 1;
  const auto u16 = [&](std::size_t at) { return little ? u16_le(exif, at) : u16_be(exif, at); };
  const auto u32 = [&](std::size_t at) { return little ? u32_le(exif, at) : u32_be(exif, at); };

  const std::size_t directory = u32(4);
  if (directory > exif.size() - 2) return 1;
  const std::size_t first = directory + 2;
  const std::size_t entries =
      std::min<std::size_t>(u16(directory), (exif.size() - first) / kEntryBytes);
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t entry = first + i * kEntryBytes;
    if (u16(entry) != kOrientationTag) continue;
    const std::uint32_t type = u16(entry + 2);
    if ((type != kShort && type != kLong) || u32(entry + 4) != 1) return 1;
    const std::uint32_t value = type == kShort ? u16(entry + 8) : u32(entry + 8);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

}  // namespace lapidary
