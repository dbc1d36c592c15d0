#pragma once

// Pictures from bytes: one function a format, all of which get bytes that begin as their format
// does, check the header's size before they decode, and throw Error(kFile) for whatever is wrong.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/paged.h"

namespace lapidary {

/// A picture as it came, and what messages call it.
struct EncodedPicture {
  std::span<const std::uint8_t> bytes;
  const std::string& name;
  bool on_white = true;            // Transparent pixels are put on white; else alpha is dropped.
  std::uint64_t memory_limit = 0;  // Bytes for decoding; 0: none.
  const std::atomic<bool>* cancel = nullptr;
};

/// Throws Error(kInterrupted) once the picture's `cancel` is set: called for every row or so.
void check_cancel(const EncodedPicture& picture);

struct DecodedPicture {
  int width = 0;
  int height = 0;
  PagedVector<std::uint8_t> rgb;  // [height][width][3]
  int orientation = 1;            // EXIF's, 1 to 8; not applied yet.
};

DecodedPicture decode_bmp(const EncodedPicture& picture);
DecodedPicture decode_gif(const EncodedPicture& picture);
DecodedPicture decode_heif(const EncodedPicture& picture);
DecodedPicture decode_jpeg(const EncodedPicture& picture);
DecodedPicture decode_png(const EncodedPicture& picture);
DecodedPicture decode_tiff(const EncodedPicture& picture);
DecodedPicture decode_webp(const EncodedPicture& picture);

/// Throws Error(kFile, "NAME: PROBLEM").
[[noreturn]] void refuse_picture(const EncodedPicture& picture, const std::string& problem);

/// The same for bytes that do not keep to their format: "NAME: a damaged or truncated FORMAT: HOW".
[[noreturn]] void refuse_damaged(const EncodedPicture& picture, const std::string& format,
                                 const std::string& how);

/// An empty picture of the header's size. Throws Error(kFile) for a size of zero, a side over
/// `max_side`, or more than Image::kMaxPixels.
DecodedPicture sized_picture(const EncodedPicture& picture, std::uint64_t width,
                             std::uint64_t height, std::uint64_t max_side);

/// Throws Error(kMemory) when decoding takes more than the limit: `bytes_per_pixel`, all that are
/// held at once, the pixels of `out` included, and the file itself.
void check_decoding_memory(const EncodedPicture& picture, const DecodedPicture& out,
                           std::uint64_t bytes_per_pixel);

/// Pixels of [red green blue alpha], alpha not multiplied in, as they look on white: 3 bytes each.
void put_on_white(std::span<const std::uint8_t> rgba, std::uint8_t* rgb);

/// Gives `picture` memory for its pixels, all zero.
void allocate_pixels(DecodedPicture& picture);

/// The orientation, 1 to 8, in an EXIF block: a TIFF header and its first directory, with or
/// without "Exif\0\0" before it. 1 where there is none or the block is damaged: it never throws.
int exif_orientation(std::span<const std::uint8_t> exif);

}  // namespace lapidary
