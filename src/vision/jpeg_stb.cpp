// JPEG where libjpeg is not built in: stb_image's decoder. Its chroma differs by a few levels, and
// of damage it sees less.

#include <algorithm>
#include <string>

#include "base/format.h"
#include "vision/bytes.h"
#include "vision/decode.h"
#include "vision/stb.h"

namespace lapidary {

namespace {

using namespace std::string_view_literals;

constexpr std::uint64_t kMaxSide = 65'535;
constexpr std::ptrdiff_t kMaxScans = 100;
constexpr std::uint8_t kApp1 = 0xe1;
constexpr std::uint8_t kStartOfScan = 0xda;
constexpr std::uint8_t kEndOfImage = 0xd9;

/// Markers without a length: restarts, the start of the image and TEM.
bool stands_alone(std::uint8_t marker) {
  return (marker >= 0xd0 && marker <= 0xd8) || marker == 0x01;
}

/// The EXIF block of a JPEG, or nothing.
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

/// Markers of this kind; those of a thumbnail count too.
std::ptrdiff_t count_markers(ByteSpan bytes, std::uint8_t marker) {
  std::ptrdiff_t count = 0;
  for (std::size_t i = 1; i < bytes.size(); ++i) {
    if (bytes[i] == marker && bytes[i - 1] == 0xff) ++count;
  }
  return count;
}

}  // namespace

DecodedPicture decode_jpeg(const EncodedPicture& picture) {
  int width = 0;
  int height = 0;
  if (!jpeg_size_with_stb(picture.bytes, width, height)) {
    refuse_damaged(picture, "JPEG", "its header cannot be read");
  }
  DecodedPicture out = sized_picture(picture, static_cast<std::uint64_t>(std::max(width, 0)),
                                     static_cast<std::uint64_t>(std::max(height, 0)), kMaxSide);
  if (count_markers(picture.bytes, 0xd9) == 0) refuse_damaged(picture, "JPEG", "it has no end");
  if (count_markers(picture.bytes, 0xda) > kMaxScans) {
    refuse_damaged(picture, "JPEG", format("it has more than {} scans", kMaxScans));
  }
  out.orientation = exif_orientation(jpeg_exif(picture.bytes));
  const std::size_t pixels =
      static_cast<std::size_t>(out.width) * static_cast<std::size_t>(out.height);
  const std::size_t most = 8 * pixels + (std::size_t{1} << 22);
  check_decoding_memory(picture, out, 4 + 3 + 3);
  if (const char* problem = decode_with_stb(picture.bytes, most, most, false, out)) {
    refuse_damaged(picture, "JPEG", problem);
  }
  return out;
}

}  // namespace lapidary
