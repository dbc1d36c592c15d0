#include "vision/decode.h"

#include <algorithm>
#include <new>
#include <string_view>
#include <utility>

#include "base/boundary.h"
#include "base/cancel.h"
#include "base/file.h"
#include "base/format.h"
#include "base/memory.h"
#include "base/paged.h"
#include "base/printable.h"
#include "lapidary/error.h"
#include "lapidary/image.h"
#include "vision/bytes.h"
#include "vision/image_impl.h"

namespace lapidary {

namespace {

using namespace std::string_view_literals;

struct Format {
  bool (*is)(ByteSpan);
  DecodedPicture (*decode)(const EncodedPicture&);
};

// A picture in the container that videos come in too: its brand tells.
bool is_heif(ByteSpan bytes) {
  for (const std::string_view brand : {"avif"sv, "avis"sv, "hei"sv, "hev"sv, "mif1"sv, "msf1"sv}) {
    if (stands_at(bytes, 4, "ftyp"sv) && stands_at(bytes, 8, brand)) return true;
  }
  return false;
}

constexpr Format kFormats[] = {
    {[](ByteSpan bytes) { return stands_at(bytes, 0, "\x89PNG\r\n\x1a\n"sv); }, decode_png},
    {[](ByteSpan bytes) { return stands_at(bytes, 0, "\xff\xd8\xff"sv); }, decode_jpeg},
    {[](ByteSpan bytes) { return stands_at(bytes, 0, "RIFF"sv) && stands_at(bytes, 8, "WEBP"sv); },
     decode_webp},
    {[](ByteSpan bytes) {
       return stands_at(bytes, 0, "GIF87a"sv) || stands_at(bytes, 0, "GIF89a"sv);
     },
     decode_gif},
    {is_heif, decode_heif},
    {[](ByteSpan bytes) {
       return stands_at(bytes, 0, "II*\0"sv) || stands_at(bytes, 0, "MM\0*"sv) ||
              stands_at(bytes, 0, "II+\0"sv) || stands_at(bytes, 0, "MM\0+"sv);
     },
     decode_tiff},
    // Two letters say little: a text may begin with them, but has no zero bytes there.
    {[](ByteSpan bytes) {
       return stands_at(bytes, 0, "BM"sv) &&
              (bytes.size() < 18 || stands_at(bytes, 15, "\0\0\0"sv));
     },
     decode_bmp},
};

// What people try besides, so that the message can name it.
struct Stranger {
  std::size_t at;
  std::string_view magic;
  const char* name;
};

constexpr Stranger kStrangers[] = {
    {4, "ftyp"sv, "a video"},
    {0, "%PDF"sv, "PDF"},
    {0, "\xff\x0a"sv, "JPEG XL"},
    {4, "JXL "sv, "JPEG XL"},
    {4, "jP  "sv, "JPEG 2000"},
    {0, "\xff\x4f\xff\x51"sv, "JPEG 2000"},
    {0, "8BPS"sv, "Photoshop's format"},
    {0, "\0\0\1\0"sv, "an icon"},
    {0, "GGUF"sv, "a GGUF model"},
    {0, "PK\3\4"sv, "a ZIP archive"},
    {0, "<svg"sv, "SVG"},
};

bool is_text(ByteSpan bytes) {
  return std::ranges::all_of(
      bytes.first(std::min<std::size_t>(bytes.size(), 512)),
      [](std::uint8_t byte) { return (byte >= 32 && byte != 127) || (byte >= 9 && byte <= 13); });
}

std::string what_it_is(ByteSpan bytes) {
  if (bytes.empty()) return "nothing: it is empty";
  for (const Stranger& stranger : kStrangers) {
    if (stands_at(bytes, stranger.at, stranger.magic)) return stranger.name;
  }
  if (is_text(bytes)) return "text";
  std::string found = "an unknown format that begins with";
  for (const std::uint8_t byte : bytes.first(std::min<std::size_t>(bytes.size(), 8)))
    found += format(" {:02x}", byte);
  return found;
}

void check_file_size(const std::string& name, std::uint64_t bytes) {
  if (bytes > Image::kMaxFileBytes) {
    throw Error(ErrorCode::kFile,
                format("{}: expected a picture of at most {} MiB, found {} MiB", name,
                       Image::kMaxFileBytes >> 20, (bytes + (1U << 20) - 1) >> 20));
  }
}

/// The picture as EXIF says that it is to be seen: 2 mirrored, 3 turned by 180 degrees, 4 upside
/// down, 5 to 8 the same four with rows and columns exchanged first.
void apply_orientation(const EncodedPicture& encoded, DecodedPicture& picture) {
  if (picture.orientation == 1) return;
  const bool transpose = picture.orientation > 4;
  const bool mirror = picture.orientation == 2 || picture.orientation == 3 ||
                      picture.orientation == 6 || picture.orientation == 7;
  const bool flip = picture.orientation == 3 || picture.orientation == 4 ||
                    picture.orientation == 7 || picture.orientation == 8;
  const auto width = static_cast<std::size_t>(picture.width);
  const auto out_width = static_cast<std::size_t>(transpose ? picture.height : picture.width);
  const auto out_height = static_cast<std::size_t>(transpose ? picture.width : picture.height);
  PagedVector<std::uint8_t> out(picture.rgb.size());
  std::uint8_t* to = out.data();
  for (std::size_t y = 0; y < out_height; ++y) {
    check_cancel(encoded);
    const std::size_t from_y = flip ? out_height - 1 - y : y;
    for (std::size_t x = 0; x < out_width; ++x, to += 3) {
      const std::size_t from_x = mirror ? out_width - 1 - x : x;
      const std::size_t pixel = transpose ? from_x * width + from_y : from_y * width + from_x;
      std::copy_n(picture.rgb.data() + 3 * pixel, 3, to);
    }
  }
  picture.rgb = std::move(out);
  picture.width = static_cast<int>(out_width);
  picture.height = static_cast<int>(out_height);
  picture.orientation = 1;
}

}  // namespace

void refuse_picture(const EncodedPicture& picture, const std::string& problem) {
  // What the libraries say may have several lines, and bytes of the file.
  constexpr std::size_t kMost = 500;
  throw Error(ErrorCode::kFile, picture.name + ": " + printable_value(problem, kMost));
}

void refuse_damaged(const EncodedPicture& picture, const std::string& format,
                    const std::string& how) {
  refuse_picture(picture, "a damaged or truncated " + format + ": " + how);
}

DecodedPicture sized_picture(const EncodedPicture& picture, std::uint64_t width,
                             std::uint64_t height, std::uint64_t max_side) {
  const std::string found = format(", found {}x{}", width, height);
  if (width == 0 || height == 0) refuse_picture(picture, "expected a picture with pixels" + found);
  // By division, since the product of two 64-bit numbers may not fit.
  if (width > Image::kMaxPixels || height > Image::kMaxPixels / width) {
    refuse_picture(
        picture, format("expected at most {} megapixels{}", Image::kMaxPixels / 1'000'000, found));
  }
  if (width > max_side || height > max_side) {
    refuse_picture(picture,
                   format("expected sides of at most {} pixels in this format{}", max_side, found));
  }
  return {.width = static_cast<int>(width), .height = static_cast<int>(height), .rgb = {}};
}

void allocate_pixels(DecodedPicture& picture) {
  picture.rgb.resize(static_cast<std::size_t>(picture.width) *
                     static_cast<std::size_t>(picture.height) * 3);
}

void check_decoding_memory(const EncodedPicture& picture, const DecodedPicture& out,
                           std::uint64_t bytes_per_pixel) {
  if (picture.memory_limit == 0) return;
  const std::uint64_t turned = out.orientation == 1 ? 0 : 3;
  const std::uint64_t pixels =
      static_cast<std::uint64_t>(out.width) * static_cast<std::uint64_t>(out.height);
  const std::uint64_t needed =
      pixels * std::max(bytes_per_pixel, 3 + turned) + picture.bytes.size();
  if (needed <= picture.memory_limit) return;
  throw Error(
      ErrorCode::kMemory,
      format("{}: decoding {}x{} pixels takes {}, more than the {} that are left of the limit",
             picture.name, out.width, out.height, format_bytes(needed),
             format_bytes(picture.memory_limit)));
}

void put_on_white(std::span<const std::uint8_t> rgba, std::uint8_t* rgb) {
  for (std::size_t i = 0; i + 4 <= rgba.size(); i += 4, rgb += 3) {
    const unsigned alpha = rgba[i + 3];
    for (std::size_t c = 0; c < 3; ++c)
      rgb[c] = static_cast<std::uint8_t>((rgba[i + c] * alpha + 255 * (255 - alpha) + 127) / 255);
  }
}

void check_cancel(const EncodedPicture& picture) {
  if (is_set(picture.cancel))
    throw Error(ErrorCode::kInterrupted, picture.name + ": interrupted while it was decoded");
}

namespace {

Image decode_picture(std::span<const std::byte> bytes, const std::string& name,
                     const ImageLoadOptions& options) {
  check_file_size(name, bytes.size());
  const EncodedPicture encoded{{reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()},
                               name,
                               options.alpha == ImageLoadOptions::Alpha::kOnWhite,
                               options.memory_limit,
                               options.cancel};
  try {
    for (const Format& format : kFormats) {
      if (!format.is(encoded.bytes)) continue;
      check_cancel(encoded);
      DecodedPicture picture = format.decode(encoded);
      check_cancel(encoded);
      apply_orientation(encoded, picture);
      return make_image(picture.width, picture.height, std::move(picture.rgb));
    }
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::kMemory, name + ": not enough memory to decode the picture");
  }
  refuse_picture(encoded,
                 "expected a PNG, JPEG, WebP, BMP, GIF, HEIC, AVIF or TIFF picture, found " +
                     what_it_is(encoded.bytes));
}

}  // namespace

Image Image::load(const std::string& path, const ImageLoadOptions& options) {
  return at_boundary([&] {
    constexpr std::size_t kPiece = std::size_t{1} << 20;
    const File file(path);
    check_file_size(path, file.size());
    if (options.memory_limit != 0 && file.size() > options.memory_limit) {
      throw Error(ErrorCode::kMemory, path + ": the file alone has " + format_bytes(file.size()) +
                                          ", more than the " + format_bytes(options.memory_limit) +
                                          " that are left of the limit");
    }
    PagedVector<std::byte> bytes(static_cast<std::size_t>(file.size()));
    for (std::size_t at = 0; at < bytes.size(); at += kPiece) {
      check_cancel(options.cancel, "reading a picture");
      file.read(at, std::span(bytes).subspan(at, std::min(kPiece, bytes.size() - at)));
    }
    return decode_picture(bytes, path, options);
  });
}

Image Image::decode(std::span<const std::byte> bytes, const std::string& name,
                    const ImageLoadOptions& options) {
  return at_boundary([&] { return decode_picture(bytes, name, options); });
}

}  // namespace lapidary
