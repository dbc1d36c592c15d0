#include "vision/jpeg.h"

namespace lapidary {

namespace {

using namespace std::string_view_literals;

constexpr std::uint8_t kApp1 = 0xe1;
constexpr std::uint8_t kStartOfScan = 0xda;
constexpr std::uint8_t kEndOfImage = 0xd9;

/// Markers without a length: restarts, the start of the image and TEM.
bool stands_alone(std::uint8_t marker) {
  return (marker >= 0xd0 && marker <= 0xd8) || marker == 0x01;
}

}  // namespace

ByteSpan jpeg_exif(ByteSpan bytes) {
  constexpr std::string_view kMark = "Exif\0\0"sv;
  std::size_t at = 2;
  while (at + 4 <= bytes.size()) {
    const std::uint8_t marker = bytes[at + 1];
    // Also past what stands between segments, as decoders do.
    if (bytes[at] != 0xff || marker == 0xff || marker == 0) {
      ++at;
      continue;
    }
    at += 2;
    if (marker == kStartOfScan || marker == kEndOfImage) break;
    if (stands_alone(marker)) continue;
    const std::size_t length = u16_be(bytes, at);
    if (length < 2 || length > bytes.size() - at) break;
    const ByteSpan segment = bytes.subspan(at + 2, length - 2);
    if (marker == kApp1 && stands_at(segment, 0, kMark)) return segment;
    at += length;
  }
  return {};
}

}  // namespace lapidary
