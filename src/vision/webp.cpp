// WebP through libwebp: still pictures, and of an animation the first frame.

#include <algorithm>
#include <new>
#include <string>

#include "vision/bytes.h"
#include "vision/decode.h"
#include "vision/exif.h"

#ifdef LAPIDARY_WEBP

#include <webp/decode.h>

namespace lapidary {

namespace {

using namespace std::string_view_literals;

constexpr std::uint64_t kMaxSide = 16'384;
constexpr std::size_t kRiffHeaderBytes = 12;
constexpr std::size_t kChunkHeaderBytes = 8;
constexpr std::size_t kFrameHeaderBytes = 16;

class WebpReader {
 public:
  explicit WebpReader(const EncodedPicture& picture) : picture_(picture) {}

  DecodedPicture decode() {
    const ByteSpan bytes = picture_.bytes;
    const std::size_t length = u32_le(bytes, 4) + kChunkHeaderBytes;
    if (length > bytes.size() || length < kRiffHeaderBytes) {
      damaged("expected " + std::to_string(length) + " bytes, found " +
              std::to_string(bytes.size()));
    }
    const ByteSpan file = bytes.first(length);
    const WebPBitstreamFeatures features = features_of(file);
    DecodedPicture out =
        sized_picture(picture_, static_cast<std::uint64_t>(std::max(features.width, 0)),
                      static_cast<std::uint64_t>(std::max(features.height, 0)), kMaxSide);
    const ByteSpan chunks = file.subspan(kRiffHeaderBytes);
    out.orientation = exif_orientation(data_of(find(chunks, "EXIF"sv)));
    if (features.has_animation != 0) {
      decode_frame(data_of(find(chunks, "ANMF"sv)), out);
    } else {
      check_decoding_memory(picture_, out, bytes_per_pixel(features));
      allocate_pixels(out);
      decode_into(file, features, 0, 0, out);
    }
    return out;
  }

 private:
  [[noreturn]] void damaged(const std::string& how) const { refuse_damaged(picture_, "WebP", how); }

  void check(VP8StatusCode status) const {
    switch (status) {
      case VP8_STATUS_OK:
        return;
      case VP8_STATUS_OUT_OF_MEMORY:
        throw std::bad_alloc();
      case VP8_STATUS_NOT_ENOUGH_DATA:
        damaged("it ends too early");
      case VP8_STATUS_UNSUPPORTED_FEATURE:
        damaged("it has an unknown feature");
      default:
        damaged("its pixels cannot be decoded");
    }
  }

  WebPBitstreamFeatures features_of(ByteSpan bytes) const {
    WebPBitstreamFeatures features;
    check(WebPGetFeatures(bytes.data(), bytes.size(), &features));
    return features;
  }

  /// The first chunk of this type with its header, or nothing.
  static ByteSpan find(ByteSpan chunks, std::string_view type) {
    while (chunks.size() >= kChunkHeaderBytes) {
      const std::size_t length = u32_le(chunks, 4);
      if (length > chunks.size() - kChunkHeaderBytes) break;
      if (stands_at(chunks, 0, type)) return chunks.first(kChunkHeaderBytes + length);
      const std::size_t padded = kChunkHeaderBytes + length + length % 2;
      chunks = chunks.subspan(std::min(padded, chunks.size()));
    }
    return {};
  }

  static ByteSpan data_of(ByteSpan chunk) {
    return chunk.empty() ? chunk : chunk.subspan(kChunkHeaderBytes);
  }

  /// libwebp's own pixels, those with alpha, and ours.
  static std::uint64_t bytes_per_pixel(const WebPBitstreamFeatures& features) {
    return 4 + (features.has_alpha != 0 ? 4 : 0) + 3;
  }

  /// An animation's frame where it stands on the canvas, which is black elsewhere, or white where
  /// what is transparent is. Alpha that belongs to a lossy frame stands in a chunk before it.
  void decode_frame(ByteSpan frame, DecodedPicture& out) const {
    if (frame.size() < kFrameHeaderBytes) damaged("its first frame is missing");
    const std::size_t x = std::size_t{2} * u24_le(frame, 0);
    const std::size_t y = std::size_t{2} * u24_le(frame, 3);
    const ByteSpan chunks = frame.subspan(kFrameHeaderBytes);
    ByteSpan pixels = find(chunks, "VP8 "sv);
    if (pixels.empty()) pixels = find(chunks, "VP8L"sv);
    if (pixels.empty()) damaged("its first frame has no pixels");
    const ByteSpan alpha = find(chunks, "ALPH"sv);
    if (picture_.on_white && !alpha.empty() && alpha.data() < pixels.data())
      pixels = {alpha.data(), pixels.data() + pixels.size()};
    const WebPBitstreamFeatures features = features_of(pixels);
    if (x + static_cast<std::size_t>(features.width) > static_cast<std::size_t>(out.width) ||
        y + static_cast<std::size_t>(features.height) > static_cast<std::size_t>(out.height)) {
      damaged("its first frame is larger than the picture");
    }
    check_decoding_memory(picture_, out, bytes_per_pixel(features));
    allocate_pixels(out);
    if (picture_.on_white) std::ranges::fill(out.rgb, std::uint8_t{255});
    decode_into(pixels, features, x, y, out);
  }

  /// Needs the picture of `features` to fit into `out` at x, y.
  void decode_into(ByteSpan bytes, const WebPBitstreamFeatures& features, std::size_t x,
                   std::size_t y, DecodedPicture& out) const {
    WebPDecoderConfig config;
    if (WebPInitDecoderConfig(&config) == 0) {
      refuse_picture(picture_, "the libwebp here is not the one that Lapidary was built with");
    }
    if (picture_.on_white && features.has_alpha != 0)
      return decode_alpha_into(bytes, features, x, y, config, out);
    const std::size_t stride = static_cast<std::size_t>(out.width) * 3;
    const std::size_t start = stride * y + 3 * x;
    config.output.colorspace = MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = out.rgb.data() + start;
    config.output.u.RGBA.stride = static_cast<int>(stride);
    config.output.u.RGBA.size = out.rgb.size() - start;
    config.output.width = features.width;
    config.output.height = features.height;
    check(WebPDecode(bytes.data(), bytes.size(), &config));
  }

  void decode_alpha_into(ByteSpan bytes, const WebPBitstreamFeatures& features, std::size_t x,
                         std::size_t y, WebPDecoderConfig& config, DecodedPicture& out) const {
    const auto width = static_cast<std::size_t>(features.width);
    const auto height = static_cast<std::size_t>(features.height);
    std::vector<std::uint8_t> rgba(4 * width * height);
    config.output.colorspace = MODE_RGBA;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = rgba.data();
    config.output.u.RGBA.stride = static_cast<int>(4 * width);
    config.output.u.RGBA.size = rgba.size();
    config.output.width = features.width;
    config.output.height = features.height;
    check(WebPDecode(bytes.data(), bytes.size(), &config));
    for (std::size_t row = 0; row < height; ++row) {
      put_on_white(std::span(rgba).subspan(4 * width * row, 4 * width),
                   out.rgb.data() + 3 * (static_cast<std::size_t>(out.width) * (y + row) + x));
    }
  }

  const EncodedPicture& picture_;
};

}  // namespace

DecodedPicture decode_webp(const EncodedPicture& picture) { return WebpReader(picture).decode(); }

}  // namespace lapidary

#else

namespace lapidary {

DecodedPicture decode_webp(const EncodedPicture& picture) {
  refuse_picture(picture, "a WebP picture, which this Lapidary was built without");
}

}  // namespace lapidary

#endif
