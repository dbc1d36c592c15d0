// HEIC and AVIF through libheif: the primary picture, as it is to be seen.

#include <libheif/heif.h>

#include <algorithm>
#include <memory>
#include <new>
#include <string>

#include "vision/decode.h"

namespace lapidary {

namespace {

constexpr std::uint64_t kMaxSide = 65'535;

template <class T, auto kFree>
struct Freed {
  void operator()(T* object) const { kFree(object); }
};
template <class T, auto kFree>
using Owned = std::unique_ptr<T, Freed<T, kFree>>;
using Context = Owned<heif_context, heif_context_free>;
using Handle = Owned<heif_image_handle, heif_image_handle_release>;
using Pixels = Owned<heif_image, heif_image_release>;
using Options = Owned<heif_decoding_options, heif_decoding_options_free>;

class HeifReader {
 public:
  explicit HeifReader(const EncodedPicture& picture) : picture_(picture) {}

  DecodedPicture decode() const {
    const Context context(heif_context_alloc());
    if (context == nullptr) throw std::bad_alloc();
    const ByteSpan bytes = picture_.bytes;
    check(heif_context_read_from_memory_without_copy(context.get(), bytes.data(), bytes.size(),
                                                     nullptr));
    heif_image_handle* raw = nullptr;
    check(heif_context_get_primary_image_handle(context.get(), &raw));
    const Handle handle(raw);
    DecodedPicture out = sized_picture(picture_, side(heif_image_handle_get_width(raw)),
                                       side(heif_image_handle_get_height(raw)), kMaxSide);
    // The planes as they are coded, the interleaved pixels, and ours.
    check_decoding_memory(picture_, out, 3 + 4 + 3);
    const bool alpha = picture_.on_white && heif_image_handle_has_alpha_channel(raw) != 0;
    // Rotation and mirroring are part of the decoding.
    heif_image* decoded = nullptr;
    check(heif_decode_image(raw, &decoded, heif_colorspace_RGB,
                            alpha ? heif_chroma_interleaved_RGBA : heif_chroma_interleaved_RGB,
                            quiet_options().get()));
    const Pixels pixels(decoded);
    copy(*decoded, alpha, out);
    return out;
  }

 private:
  using ByteSpan = std::span<const std::uint8_t>;

  /// With libaom for AV1 where libheif has it: dav1d, its first choice, prints what is damaged, and
  /// libheif does not let us keep it from that.
  static Options quiet_options() {
    Options options(heif_decoding_options_alloc());
    if (options == nullptr) throw std::bad_alloc();
#if LIBHEIF_HAVE_VERSION(1, 15, 0)
    if (options->version >= 4) options->decoder_id = "aom";
#endif
    return options;
  }

  static std::uint64_t side(int length) { return static_cast<std::uint64_t>(std::max(length, 0)); }

  void check(const heif_error& error) const {
    if (error.code == heif_error_Ok) return;
    // Also what exceeds the library's own limits of sizes is said to be a lack of memory.
    const std::string reason = error.message == nullptr ? "" : error.message;
    if (error.code == heif_error_Unsupported_filetype ||
        error.code == heif_error_Unsupported_feature)
      refuse_picture(picture_,
                     "a HEIC or AVIF picture that the libheif here cannot decode: " + reason);
    refuse_damaged(picture_, "HEIC or AVIF", reason);
  }

  void copy(const heif_image& image, bool alpha, DecodedPicture& out) const {
    int stride = 0;
    const std::uint8_t* plane =
        heif_image_get_plane_readonly(&image, heif_channel_interleaved, &stride);
    if (plane == nullptr || heif_image_get_width(&image, heif_channel_interleaved) != out.width ||
        heif_image_get_height(&image, heif_channel_interleaved) != out.height)
      refuse_damaged(picture_, "HEIC or AVIF", "its size changes");
    allocate_pixels(out);
    const auto width = static_cast<std::size_t>(out.width);
    for (int y = 0; y < out.height; ++y) {
      const std::uint8_t* row = plane + static_cast<std::ptrdiff_t>(y) * stride;
      std::uint8_t* to = out.rgb.data() + static_cast<std::size_t>(y) * width * 3;
      if (alpha) {
        put_on_white({row, 4 * width}, to);
      } else {
        std::copy_n(row, 3 * width, to);
      }
    }
  }

  const EncodedPicture& picture_;
};

}  // namespace

DecodedPicture decode_heif(const EncodedPicture& picture) { return HeifReader(picture).decode(); }

}  // namespace lapidary
