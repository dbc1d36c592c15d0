// libFuzzer entry of the picture decoders: any bytes are a picture or an Error, nothing else. The
// corpus decides which decoder is tried. A PNG is tried once more with right checksums, since no
// mutation would get past them.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "lapidary/error.h"
#include "lapidary/image.h"
#include "vision/bytes.h"

namespace {

using lapidary::ByteSpan;
using lapidary::u32_be;

void try_to_decode(ByteSpan bytes) {
  try {
    const lapidary::Image image = lapidary::Image::decode(std::as_bytes(bytes));
    const auto pixels =
        static_cast<std::size_t>(image.width()) * static_cast<std::size_t>(image.height());
    if (pixels == 0 || pixels > lapidary::Image::kMaxPixels || image.rgb().size() != 3 * pixels) {
      std::abort();
    }
  } catch (const lapidary::Error& error) {
    if (error.code() != lapidary::ErrorCode::kFile) std::abort();
  }
}

std::uint32_t crc32(ByteSpan bytes) {
  std::uint32_t crc = ~0U;
  for (const std::uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0xedb88320U & (0U - (crc & 1)));
  }
  return ~crc;
}

std::vector<std::uint8_t> with_png_checksums(ByteSpan bytes) {
  std::vector<std::uint8_t> out(bytes.begin(), bytes.end());
  for (std::size_t at = 8; out.size() - at >= 12;) {
    const std::size_t length = u32_be(out, at);
    if (length > out.size() - at - 12) break;
    const std::uint32_t crc = crc32(ByteSpan(out).subspan(at + 4, length + 4));
    at += length + 8;
    for (int shift = 24; shift >= 0; shift -= 8)
      out[at++] = static_cast<std::uint8_t>(crc >> shift);
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteSpan bytes(data, size);
  try_to_decode(bytes);
  if (size > 8 && lapidary::stands_at(bytes, 1, "PNG")) try_to_decode(with_png_checksums(bytes));
  return 0;
}
