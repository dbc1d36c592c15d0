// JPEG through libjpeg. It reports errors by longjmp, which must not skip a destructor: each call
// into it stands in a function that owns nothing, and what is owned lives in its caller.

#include <csetjmp>
#include <cstdio>
#include <string>
// jpeglib.h needs <cstdio> before it.
#include <jerror.h>
#include <jpeglib.h>

#include "base/cancel.h"
#include "base/format.h"
#include "vision/bytes.h"
#include "vision/decode.h"

namespace lapidary {

namespace {

constexpr std::uint64_t kMaxSide = JPEG_MAX_DIMENSION;
// A progressive picture of the largest size has 16 bits for each of up to 4 numbers a pixel.
constexpr long kMaxMemory = 1L << 30;
// Encoders write about ten; each takes a walk over the whole picture, however few bytes it has.
constexpr int kMaxScans = 100;
constexpr int kApp1 = JPEG_APP0 + 1;  // The marker of EXIF, and of other things.

/// libjpeg's error manager with what ours needs.
struct ErrorManager {
  jpeg_error_mgr base;
  std::jmp_buf jump;
  const std::atomic<bool>* cancel;
  char message[JMSG_LENGTH_MAX];
};

ErrorManager& manager_of(j_common_ptr info) { return *reinterpret_cast<ErrorManager*>(info->err); }

/// What Pillow reads over too, since no pixel depends on it.
bool is_harmless(int warning) {
  return warning == JWRN_EXTRANEOUS_DATA || warning == JWRN_ADOBE_XFORM ||
         warning == JWRN_JFIF_MAJOR;
}

extern "C" {
static void jpeg_on_error(j_common_ptr info) {
  ErrorManager& manager = manager_of(info);
  manager.base.format_message(info, manager.message);
  std::longjmp(manager.jump, 1);
}

static void jpeg_on_message(j_common_ptr info, int level) {
  if (level < 0 && !is_harmless(info->err->msg_code)) jpeg_on_error(info);
}

static void jpeg_on_progress(j_common_ptr info) {
  ErrorManager& manager = manager_of(info);
  if (is_set(manager.cancel)) std::longjmp(manager.jump, 1);
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMaxScans) return;
  std::snprintf(manager.message, sizeof manager.message, "it has more than %d scans", kMaxScans);
  std::longjmp(manager.jump, 1);
}
}

/// One decompression. A function that returns false left its reason in problem().
class Decompressor {
 public:
  explicit Decompressor(const std::atomic<bool>* cancel) {
    error_.cancel = cancel;
    info_.err = jpeg_std_error(&error_.base);
    error_.base.error_exit = jpeg_on_error;
    error_.base.emit_message = jpeg_on_message;
    progress_.progress_monitor = jpeg_on_progress;
  }
  ~Decompressor() { jpeg_destroy_decompress(&info_); }
  Decompressor(const Decompressor&) = delete;
  Decompressor& operator=(const Decompressor&) = delete;

  bool read_header(ByteSpan bytes) {
    if (setjmp(error_.jump) != 0) return false;
    jpeg_create_decompress(&info_);
    info_.mem->max_memory_to_use = kMaxMemory;
    info_.progress = &progress_;
    jpeg_save_markers(&info_, kApp1, 0xFFFF);
    jpeg_mem_src(&info_, bytes.data(), static_cast<unsigned long>(bytes.size()));
    jpeg_read_header(&info_, TRUE);
    return true;
  }

  /// Whether the colours can become RGB or, for four of them, CMYK.
  bool choose_colours() {
    const J_COLOR_SPACE from = info_.jpeg_color_space;
    if (from == JCS_CMYK || from == JCS_YCCK) {
      info_.out_color_space = JCS_CMYK;
    } else if (from == JCS_GRAYSCALE || from == JCS_YCbCr || from == JCS_RGB) {
      info_.out_color_space = JCS_RGB;
    } else {
      return false;
    }
    return true;
  }

  /// Reads to the very end. `rgb` holds the whole picture, `cmyk` one row where that comes out.
  bool read_pixels(std::uint8_t* rgb, std::uint8_t* cmyk) {
    if (setjmp(error_.jump) != 0) return false;
    jpeg_start_decompress(&info_);
    while (info_.output_scanline < info_.output_height) {
      std::uint8_t* const out = rgb + std::size_t{3} * info_.output_width * info_.output_scanline;
      JSAMPROW row = is_cmyk() ? cmyk : out;
      if (jpeg_read_scanlines(&info_, &row, 1) == 1 && is_cmyk()) to_rgb(cmyk, out);
    }
    jpeg_finish_decompress(&info_);
    return true;
  }

  /// The first EXIF block of the header, or nothing. Lies in this.
  ByteSpan exif() const {
    using namespace std::string_view_literals;
    for (jpeg_saved_marker_ptr marker = info_.marker_list; marker != nullptr;
         marker = marker->next) {
      const ByteSpan data(marker->data, marker->data_length);
      if (marker->marker == kApp1 && stands_at(data, 0, "Exif\0\0"sv)) return data;
    }
    return {};
  }

  const char* problem() const { return error_.message; }
  bool is_cmyk() const { return info_.out_color_space == JCS_CMYK; }
  JDIMENSION width() const { return info_.image_width; }
  JDIMENSION height() const { return info_.image_height; }
  unsigned components() const { return static_cast<unsigned>(info_.num_components); }
  /// Of several scans, 16 bits for each number of the whole picture.
  bool holds_coefficients() const {
    return info_.progressive_mode || info_.comps_in_scan < info_.num_components;
  }

 private:
  /// Adobe's programs, which write nearly all of these, store the ink that is missing. The rounding
  /// is Pillow's.
  void to_rgb(const std::uint8_t* cmyk, std::uint8_t* rgb) const {
    for (JDIMENSION x = 0; x < info_.output_width; ++x, cmyk += 4, rgb += 3) {
      const int light = cmyk[3];
      for (int c = 0; c < 3; ++c) {
        const int product = (255 - cmyk[c]) * light + 128;
        const int value = light - ((product + (product >> 8)) >> 8);
        rgb[c] = static_cast<std::uint8_t>(value < 0 ? 0 : value);
      }
    }
  }

  jpeg_decompress_struct info_{};
  ErrorManager error_{};
  jpeg_progress_mgr progress_{};
};

}  // namespace

DecodedPicture decode_jpeg(const EncodedPicture& picture) {
  Decompressor jpeg(picture.cancel);
  if (!jpeg.read_header(picture.bytes)) refuse_damaged(picture, "JPEG", jpeg.problem());
  DecodedPicture out = sized_picture(picture, jpeg.width(), jpeg.height(), kMaxSide);
  if (!jpeg.choose_colours()) {
    refuse_picture(
        picture,
        format("expected a JPEG in grey, YCbCr, RGB, CMYK or YCCK, found {} unknown colours",
               jpeg.components()));
  }
  out.orientation = exif_orientation(jpeg.exif());
  check_decoding_memory(picture, out, 3 + (jpeg.holds_coefficients() ? 2 * jpeg.components() : 0));
  allocate_pixels(out);
  std::vector<std::uint8_t> cmyk(jpeg.is_cmyk() ? std::size_t{4} * jpeg.width() : 0);
  if (!jpeg.read_pixels(out.rgb.data(), cmyk.data())) {
    check_cancel(picture);
    refuse_damaged(picture, "JPEG", jpeg.problem());
  }
  return out;
}

}  // namespace lapidary
