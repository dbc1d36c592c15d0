// WebP through libwebp: still pictures, and of an animation the first frame.

#include <webp/decode.h>
#include <webp/demux.h>

#include <algorithm>
#include <memory>
#include <new>
#include <string>

#include "base/format.h"
#include "vision/bytes.h"
#include "vision/decode.h"

namespace lapidary {

namespace {

constexpr std::uint64_t kMaxSide = 16'384;
constexpr std::size_t kChunkHeaderBytes = 8;

struct DeleteDemuxer {
  void operator()(WebPDemuxer* demuxer) const { WebPDemuxDelete(demuxer); }
};

class WebpReader {
 public:
  explicit WebpReader(const EncodedPicture& picture) : picture_(picture) {}

  DecodedPicture decode() {
    const ByteSpan bytes = picture_.bytes;
    const std::size_t length = u32_le(bytes, 4) + kChunkHeaderBytes;
    if (length > bytes.size()) {
      damaged(format("expected {} bytes, found {}", length, bytes.size()));
    }
    const WebPData file{bytes.data(), length};
    WebPDemuxState state;
    demuxer_.reset(WebPDemuxPartial(&file, &state));
    if (demuxer_ == nullptr || state == WEBP_DEMUX_PARSE_ERROR) damaged("its chunks are wrong");
    DecodedPicture out =
        sized_picture(picture_, WebPDemuxGetI(demuxer_.get(), WEBP_FF_CANVAS_WIDTH),
                      WebPDemuxGetI(demuxer_.get(), WEBP_FF_CANVAS_HEIGHT), kMaxSide);
    out.orientation = read_orientation();
    decode_frame(out);
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
      case VP8_STATUS_SUSPENDED:
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

  int read_orientation() const {
    WebPChunkIterator chunk;
    int orientation = 1;
    if (WebPDemuxGetChunk(demuxer_.get(), "EXIF", 1, &chunk) != 0)
      orientation = exif_orientation({chunk.chunk.bytes, chunk.chunk.size});
    WebPDemuxReleaseChunkIterator(&chunk);
    return orientation;
  }

  /// libwebp's own pixels, those with alpha, and ours.
  static std::uint64_t bytes_per_pixel(const WebPBitstreamFeatures& features) {
    return 4 + (features.has_alpha != 0 ? 4 : 0) + 3;
  }

  /// The picture, or an animation's first frame where it stands on the canvas, which is black
  /// elsewhere, or white where what is transparent is. The demuxer has checked that it fits.
  void decode_frame(DecodedPicture& out) const {
    WebPIterator frame;
    if (WebPDemuxGetFrame(demuxer_.get(), 1, &frame) == 0) damaged("its pixels are missing");
    const ByteSpan pixels(frame.fragment.bytes, frame.fragment.size);  // In the file's bytes.
    const auto x = static_cast<std::size_t>(frame.x_offset);
    const auto y = static_cast<std::size_t>(frame.y_offset);
    WebPDemuxReleaseIterator(&frame);
    const WebPBitstreamFeatures features = features_of(pixels);
    check_decoding_memory(picture_, out, bytes_per_pixel(features));
    allocate_pixels(out);
    if (picture_.on_white) std::ranges::fill(out.rgb, std::uint8_t{255});
    decode_into(pixels, features, x, y, out);
  }

  /// Looks at the cancel between parts of the file, of which each costs a little.
  void decode_in_parts(ByteSpan bytes, WebPDecoderConfig& config) const {
    const std::size_t part = std::max<std::size_t>(16 * 1024, bytes.size() / 64);
    const std::unique_ptr<WebPIDecoder, void (*)(WebPIDecoder*)> decoder(
        WebPIDecode(nullptr, 0, &config), WebPIDelete);
    if (decoder == nullptr) throw std::bad_alloc();
    VP8StatusCode status = VP8_STATUS_SUSPENDED;
    // Each time what there is so far, which is not copied.
    for (std::size_t end = 0; end < bytes.size() && status == VP8_STATUS_SUSPENDED;) {
      check_cancel(picture_);
      end = std::min(end + part, bytes.size());
      status = WebPIUpdate(decoder.get(), bytes.data(), end);
    }
    check(status);
  }

  /// Needs the picture of `features` to fit into `out` at x, y.
  void decode_into(ByteSpan bytes, const WebPBitstreamFeatures& features, std::size_t x,
                   std::size_t y, DecodedPicture& out) const {
    WebPDecoderConfig config;
    if (WebPInitDecoderConfig(&config) == 0) {
      refuse_picture(picture_, "the libwebp here is not the one that Lapidary was built with");
    }
    const bool alpha = picture_.on_white && features.has_alpha != 0;
    const auto width = static_cast<std::size_t>(features.width);
    const auto height = static_cast<std::size_t>(features.height);
    const std::size_t stride = static_cast<std::size_t>(out.width) * 3;
    std::uint8_t* const rgb = out.rgb.data() + stride * y + 3 * x;
    std::vector<std::uint8_t> rgba(alpha ? 4 * width * height : 0);
    config.output.colorspace = alpha ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = alpha ? rgba.data() : rgb;
    config.output.u.RGBA.stride = static_cast<int>(alpha ? 4 * width : stride);
    config.output.u.RGBA.size = alpha ? rgba.size() : out.rgb.size() - (stride * y + 3 * x);
    config.output.width = features.width;
    config.output.height = features.height;
    decode_in_parts(bytes, config);
    for (std::size_t row = 0; alpha && row < height; ++row)
      put_on_white(std::span(rgba).subspan(4 * width * row, 4 * width), rgb + stride * row);
  }

  const EncodedPicture& picture_;
  std::unique_ptr<WebPDemuxer, DeleteDemuxer> demuxer_;
};

}  // namespace

DecodedPicture decode_webp(const EncodedPicture& picture) { return WebpReader(picture).decode(); }

}  // namespace lapidary
