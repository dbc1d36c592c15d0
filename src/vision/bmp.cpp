// BMP: uncompressed pixels of 1, 4, 8, 16, 24 and 32 bits, with palettes and masks.

#include <algorithm>
#include <bit>
#include <string>

#include "base/format.h"
#include "vision/bytes.h"
#include "vision/decode.h"

namespace lapidary {

namespace {

constexpr std::uint64_t kMaxSide = 100'000'000;  // As many as there may be pixels.
constexpr std::size_t kFileHeaderBytes = 14;
constexpr std::size_t kOldHeaderBytes = 12;   // OS/2's: 16-bit sizes, palette entries of 3 bytes.
constexpr std::size_t kInfoHeaderBytes = 40;  // The common one, and the beginning of later ones.

enum Compression : std::uint32_t { kNone = 0, kMasks = 3, kMasksWithAlpha = 6 };

/// One colour's bits in a pixel of 16 or 32 bits.
struct Mask {
  std::uint32_t bits = 0;

  /// Whether there are some, side by side.
  bool is_valid() const {
    const std::uint32_t low = bits >> (bits != 0 ? std::countr_zero(bits) : 0);
    return low != 0 && (low & (low + 1)) == 0;
  }

  /// Scaled to 0..255, cut off as Pillow does it.
  std::uint8_t of(std::uint32_t pixel) const {
    const int shift = std::countr_zero(bits);
    const std::uint64_t value = (pixel & bits) >> shift;
    return static_cast<std::uint8_t>(value * 255 / (bits >> shift));
  }
};

class BmpReader {
 public:
  explicit BmpReader(const EncodedPicture& picture) : picture_(picture), bytes_(picture.bytes) {}

  DecodedPicture decode() {
    if (bytes_.size() < kFileHeaderBytes + 4) damaged("its header is cut off");
    header_bytes_ = u32_le(bytes_, kFileHeaderBytes);
    if (header_bytes_ != kOldHeaderBytes && header_bytes_ < kInfoHeaderBytes) {
      damaged("its header has an unknown size");
    }
    if (header_bytes_ > bytes_.size() - kFileHeaderBytes) damaged("its header is cut off");
    DecodedPicture out = read_header();
    const auto width = static_cast<std::size_t>(out.width);
    const auto height = static_cast<std::size_t>(out.height);
    const std::size_t row_bytes = (width * depth_ + 7) / 8;
    const std::size_t stride = (row_bytes + 3) / 4 * 4;
    const std::size_t start = u32_le(bytes_, 10);
    // The last row's padding may be missing.
    const std::size_t needed = stride * (height - 1) + row_bytes;
    if (start > bytes_.size() || needed > bytes_.size() - start) {
      damaged(format("expected {} bytes of pixels at byte {}, found {}", needed, start,
                     bytes_.size() - std::min(start, bytes_.size())));
    }
    check_decoding_memory(picture_, out, 3);
    allocate_pixels(out);
    for (std::size_t y = 0; y < height; ++y) {
      check_cancel(picture_);
      const std::size_t row = top_down_ ? y : height - 1 - y;
      read_row(bytes_.subspan(start + stride * row, row_bytes),
               std::span(out.rgb).subspan(3 * width * y, 3 * width));
    }
    return out;
  }

 private:
  [[noreturn]] void damaged(const std::string& how) const { refuse_damaged(picture_, "BMP", how); }

  DecodedPicture read_header() {
    const std::size_t at = kFileHeaderBytes + 4;
    std::int64_t width = 0;
    std::int64_t height = 0;
    std::uint32_t compression = kNone;
    if (header_bytes_ == kOldHeaderBytes) {
      width = u16_le(bytes_, at);
      height = u16_le(bytes_, at + 2);
      depth_ = u16_le(bytes_, at + 6);
    } else {
      width = static_cast<std::int32_t>(u32_le(bytes_, at));
      height = static_cast<std::int32_t>(u32_le(bytes_, at + 4));
      depth_ = u16_le(bytes_, at + 10);
      compression = u32_le(bytes_, at + 12);
    }
    top_down_ = height < 0;
    if (width < 0) damaged("its width is negative");
    const auto rows = static_cast<std::uint64_t>(top_down_ ? -height : height);
    DecodedPicture out = sized_picture(picture_, static_cast<std::uint64_t>(width), rows, kMaxSide);
    const bool masks = compression == kMasks || compression == kMasksWithAlpha;
    if (compression != kNone && !(masks && (depth_ == 16 || depth_ == 32))) {
      refuse_picture(
          picture_,
          format("expected an uncompressed BMP, found compression {} with {} bits a pixel",
                 compression, depth_));
    }
    if (depth_ == 1 || depth_ == 4 || depth_ == 8) {
      read_palette();
    } else if (depth_ == 16 || depth_ == 32) {
      read_masks(masks);
    } else if (depth_ != 24) {
      damaged(format("no BMP has {} bits a pixel", depth_));
    }
    return out;
  }

  /// What the file has of 2, 16 or 256 colours; the rest is black.
  void read_palette() {
    const bool old = header_bytes_ == kOldHeaderBytes;
    const std::size_t at = kFileHeaderBytes + header_bytes_;
    const std::size_t entry = old ? 3 : 4;
    const std::size_t most = std::size_t{1} << depth_;
    const std::size_t said = old ? 0 : u32_le(bytes_, kFileHeaderBytes + 32);
    const std::size_t count = said == 0 ? most : std::min(said, most);
    if (count * entry > bytes_.size() - at) damaged("its palette is cut off");
    palette_.resize(most * 3);
    for (std::size_t i = 0; i < count; ++i) {
      for (std::size_t c = 0; c < 3; ++c) palette_[3 * i + c] = bytes_[at + entry * i + 2 - c];
    }
  }

  void read_masks(bool given) {
    const std::size_t at = kFileHeaderBytes + kInfoHeaderBytes;
    if (given && bytes_.size() < at + 12) damaged("its masks are cut off");
    for (std::uint32_t c = 0; c < 3; ++c) {
      Mask& mask = masks_[c];
      mask.bits = given          ? u32_le(bytes_, at + std::size_t{4} * c)
                  : depth_ == 16 ? 0x7c00U >> 5 * c
                                 : 0xff0000U >> 8 * c;
      if (!mask.is_valid()) damaged("its colour masks are wrong");
    }
    read_alpha_mask(given);
  }

  /// Later headers have a fourth mask. It counts where some pixel is not wholly transparent: many
  /// programs write zeros there and mean a picture that can be seen.
  void read_alpha_mask(bool given) {
    constexpr std::size_t kWithAlphaMask = 56;
    const std::size_t at = kFileHeaderBytes + kInfoHeaderBytes + 12;
    if (!picture_.on_white || !given || depth_ != 32 || header_bytes_ < kWithAlphaMask) return;
    const Mask alpha{u32_le(bytes_, at)};
    if (!alpha.is_valid()) return;
    const std::size_t start = u32_le(bytes_, 10);
    for (std::size_t i = start; alpha_.bits == 0 && i + 4 <= bytes_.size(); i += 4)
      if ((u32_le(bytes_, i) & alpha.bits) != 0) alpha_ = alpha;
  }

  void read_row(ByteSpan row, std::span<std::uint8_t> out) const {
    const std::size_t width = out.size() / 3;
    for (std::size_t x = 0; x < width; ++x) {
      std::uint8_t* const rgb = out.data() + 3 * x;
      if (depth_ == 24) {
        std::reverse_copy(row.data() + 3 * x, row.data() + 3 * x + 3, rgb);
      } else if (depth_ > 8) {
        const std::uint32_t pixel = depth_ == 16 ? u16_le(row, 2 * x) : u32_le(row, 4 * x);
        std::uint8_t rgba[4] = {0, 0, 0, 255};
        for (std::size_t c = 0; c < 3; ++c) rgba[c] = masks_[c].of(pixel);
        if (alpha_.bits != 0) rgba[3] = alpha_.of(pixel);
        put_on_white(rgba, rgb);
      } else {
        const std::size_t bit = x * depth_;
        const std::size_t index = row[bit / 8] >> (8 - depth_ - bit % 8) & ((1U << depth_) - 1);
        std::copy_n(palette_.data() + 3 * index, 3, rgb);
      }
    }
  }

  const EncodedPicture& picture_;
  const ByteSpan bytes_;
  std::size_t header_bytes_ = 0;
  std::uint32_t depth_ = 0;
  bool top_down_ = false;
  std::vector<std::uint8_t> palette_;
  Mask masks_[3];
  Mask alpha_;
};

}  // namespace

DecodedPicture decode_bmp(const EncodedPicture& picture) { return BmpReader(picture).decode(); }

}  // namespace lapidary
