// TIFF through libtiff: the first page.

#include <tiffio.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "base/cancel.h"
#include "vision/decode.h"

namespace lapidary {

namespace {

constexpr std::uint64_t kMaxSide = 100'000'000;  // As many as there may be pixels.

/// The bytes of a file as libtiff reads them: strip after strip, until a cancel.
struct Source {
  std::span<const std::uint8_t> bytes;
  const std::atomic<bool>* cancel;
  std::uint64_t at = 0;
};

tmsize_t read_source(thandle_t handle, void* to, tmsize_t size) {
  Source& source = *static_cast<Source*>(handle);
  if (is_set(source.cancel)) return -1;
  const std::uint64_t left =
      source.bytes.size() - std::min<std::uint64_t>(source.at, source.bytes.size());
  const auto count = static_cast<std::size_t>(
      std::min<std::uint64_t>(left, static_cast<std::uint64_t>(std::max<tmsize_t>(size, 0))));
  if (count > 0) std::memcpy(to, source.bytes.data() + source.at, count);
  source.at += count;
  return static_cast<tmsize_t>(count);
}
tmsize_t refuse_to_write(thandle_t, void*, tmsize_t) { return -1; }
toff_t seek_source(thandle_t handle, toff_t offset, int from) {
  Source& source = *static_cast<Source*>(handle);
  source.at = from == SEEK_SET   ? offset
              : from == SEEK_CUR ? source.at + offset
                                 : source.bytes.size() + offset;
  return source.at;
}
int close_source(thandle_t) { return 0; }
toff_t size_of_source(thandle_t handle) { return static_cast<Source*>(handle)->bytes.size(); }
int map_source(thandle_t handle, void** base, toff_t* size) {
  const Source& source = *static_cast<Source*>(handle);
  // libtiff reads it only, since the file is opened for reading.
  *base = const_cast<std::uint8_t*>(source.bytes.data());
  *size = source.bytes.size();
  return 1;
}
void unmap_source(thandle_t, void*, toff_t) {}

/// Keeps the first thing that libtiff complains about; nothing is printed.
int keep_error(TIFF*, void* to, const char*, const char* pattern, va_list arguments) {
  std::string& text = *static_cast<std::string*>(to);
  if (!text.empty()) return 1;
  char line[160];
  std::vsnprintf(line, sizeof line, pattern, arguments);
  text = line;
  return 1;
}
int drop_warning(TIFF*, void*, const char*, const char*, va_list) { return 1; }

class TiffReader {
 public:
  explicit TiffReader(const EncodedPicture& picture)
      : picture_(picture), source_{picture.bytes, picture.cancel} {}

  DecodedPicture decode() {
    const std::unique_ptr<TIFFOpenOptions, void (*)(TIFFOpenOptions*)> options(
        TIFFOpenOptionsAlloc(), TIFFOpenOptionsFree);
    if (options == nullptr) throw std::bad_alloc();
    TIFFOpenOptionsSetErrorHandlerExtR(options.get(), keep_error, &problem_);
    TIFFOpenOptionsSetWarningHandlerExtR(options.get(), drop_warning, nullptr);
    // Of one allocation: 100 megapixels need less.
    constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 30;
    const std::uint64_t most =
        picture_.memory_limit == 0 ? kMostBytes : std::min(picture_.memory_limit, kMostBytes);
    TIFFOpenOptionsSetMaxSingleMemAlloc(options.get(), static_cast<tmsize_t>(most));
    const std::unique_ptr<TIFF, void (*)(TIFF*)> tiff(
        TIFFClientOpenExt("picture", "rM", &source_, read_source, refuse_to_write, seek_source,
                          close_source, size_of_source, map_source, unmap_source, options.get()),
        TIFFClose);
    if (tiff == nullptr) damaged();
    std::uint32_t width = 0;
    std::uint32_t height = 0;
    if (TIFFGetField(tiff.get(), TIFFTAG_IMAGEWIDTH, &width) == 0 ||
        TIFFGetField(tiff.get(), TIFFTAG_IMAGELENGTH, &height) == 0)
      damaged();
    DecodedPicture out = sized_picture(picture_, width, height, kMaxSide);
    // The raster, a strip or tile of at most its size, and ours.
    check_decoding_memory(picture_, out, 4 + 4 + 3);
    std::uint16_t orientation = 1;
    TIFFGetFieldDefaulted(tiff.get(), TIFFTAG_ORIENTATION, &orientation);
    out.orientation = orientation >= 1 && orientation <= 8 ? orientation : 1;
    if (has_plain_alpha(*tiff)) {
      read_plain_alpha(*tiff, out);
    } else {
      read_pixels(*tiff, out);
    }
    return out;
  }

 private:
  [[noreturn]] void damaged() const {
    check_cancel(picture_);  // What a read that was stopped looks like.
    refuse_damaged(picture_, "TIFF", problem_.empty() ? "it cannot be read" : problem_);
  }

  /// What the samples beside the colours are.
  static std::span<const std::uint16_t> extra_samples(TIFF& tiff) {
    std::uint16_t count = 0;
    const std::uint16_t* kinds = nullptr;
    TIFFGetFieldDefaulted(&tiff, TIFFTAG_EXTRASAMPLES, &count, &kinds);
    return {kinds, kinds == nullptr ? std::size_t{0} : count};
  }

  // Whether alpha stands beside colours that it is not multiplied into, in bytes and in rows: what
  // most programs write. libtiff's own conversion would multiply, and takes grey for multiplied
  // already.
  static bool has_plain_alpha(TIFF& tiff) {
    const auto field = [&](std::uint32_t tag) {
      std::uint16_t value = 0;
      TIFFGetFieldDefaulted(&tiff, tag, &value);
      return value;
    };
    const std::span<const std::uint16_t> extra = extra_samples(tiff);
    const int samples = field(TIFFTAG_SAMPLESPERPIXEL);
    const int photometric = field(TIFFTAG_PHOTOMETRIC);
    const bool colours = (photometric == PHOTOMETRIC_RGB && samples == 4) ||
                         (photometric == PHOTOMETRIC_MINISBLACK && samples == 2);
    return colours && extra.size() == 1 && extra[0] == EXTRASAMPLE_UNASSALPHA &&
           field(TIFFTAG_BITSPERSAMPLE) == 8 &&
           field(TIFFTAG_PLANARCONFIG) == PLANARCONFIG_CONTIG && TIFFIsTiled(&tiff) == 0;
  }

  void read_plain_alpha(TIFF& tiff, DecodedPicture& out) {
    std::uint16_t samples = 0;
    TIFFGetFieldDefaulted(&tiff, TIFFTAG_SAMPLESPERPIXEL, &samples);
    const auto width = static_cast<std::size_t>(out.width);
    if (TIFFScanlineSize64(&tiff) != width * samples) damaged();
    std::vector<std::uint8_t> row(width * samples);
    std::vector<std::uint8_t> rgba(width * 4);
    allocate_pixels(out);
    for (int y = 0; y < out.height; ++y) {
      if (TIFFReadScanline(&tiff, row.data(), static_cast<std::uint32_t>(y), 0) != 1 ||
          !problem_.empty())
        damaged();
      for (std::size_t x = 0; x < width; ++x) {
        const std::uint8_t* pixel = row.data() + x * samples;
        for (std::size_t c = 0; c < 3; ++c) rgba[4 * x + c] = pixel[samples == 4 ? c : 0];
        rgba[4 * x + 3] = picture_.on_white ? pixel[samples - 1U] : 255;
      }
      put_on_white(rgba, out.rgb.data() + static_cast<std::size_t>(y) * width * 3);
    }
  }

  void read_pixels(TIFF& tiff, DecodedPicture& out) {
    const auto pixels = static_cast<std::size_t>(out.width) * static_cast<std::size_t>(out.height);
    std::vector<std::uint32_t> raster(pixels);
    char why[1024] = "";
    if (TIFFRGBAImageOK(&tiff, why) == 0)
      refuse_picture(picture_, "a TIFF that the libtiff here cannot decode: " + std::string(why));
    // As it is stored: the orientation is applied with those of other formats.
    TIFFRGBAImage image;
    if (TIFFRGBAImageBegin(&image, &tiff, 1, why) == 0) damaged();
    image.orientation = ORIENTATION_TOPLEFT;
    image.req_orientation = ORIENTATION_TOPLEFT;
    const int whole = TIFFRGBAImageGet(&image, raster.data(), image.width, image.height);
    // libtiff multiplies alpha in. A sample that the file does not call so is none.
    const std::span<const std::uint16_t> extra = extra_samples(tiff);
    const bool premultiplied =
        image.alpha != 0 && !extra.empty() && extra[0] != EXTRASAMPLE_UNSPECIFIED;
    TIFFRGBAImageEnd(&image);
    if (whole == 0 || !problem_.empty()) damaged();
    allocate_pixels(out);
    for (std::size_t i = 0; i < pixels; ++i) {
      const std::uint32_t pixel = raster[i];
      const std::uint32_t colours[3] = {TIFFGetR(pixel), TIFFGetG(pixel), TIFFGetB(pixel)};
      const std::uint32_t white = picture_.on_white && premultiplied ? 255 - TIFFGetA(pixel) : 0;
      for (std::size_t c = 0; c < 3; ++c)
        out.rgb[3 * i + c] = static_cast<std::uint8_t>(std::min(colours[c] + white, 255U));
    }
  }

  const EncodedPicture& picture_;
  Source source_;
  std::string problem_;
};

}  // namespace

DecodedPicture decode_tiff(const EncodedPicture& picture) { return TiffReader(picture).decode(); }

}  // namespace lapidary
