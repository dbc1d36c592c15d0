// The formats whose libraries are not built in.

#include "vision/decode.h"

namespace lapidary {

#ifndef LAPIDARY_GIF
DecodedPicture decode_gif(const EncodedPicture& picture) {
  refuse_picture(picture, "a GIF picture, which this Lapidary was built without");
}
#endif

#ifndef LAPIDARY_HEIF
DecodedPicture decode_heif(const EncodedPicture& picture) {
  refuse_picture(
      picture,
      "a HEIC or AVIF picture, which this Lapidary was built without (libheif: libheif-dev "
      "on Debian, libheif-devel on Fedora, libheif in brew)");
}
#endif

#ifndef LAPIDARY_TIFF
DecodedPicture decode_tiff(const EncodedPicture& picture) {
  refuse_picture(
      picture,
      "a TIFF picture, which this Lapidary was built without (libtiff 4.5: libtiff-dev on "
      "Debian, libtiff-devel on Fedora, libtiff in brew)");
}
#endif

#ifndef LAPIDARY_WEBP
DecodedPicture decode_webp(const EncodedPicture& picture) {
  refuse_picture(picture, "a WebP picture, which this Lapidary was built without");
}
#endif

}  // namespace lapidary
