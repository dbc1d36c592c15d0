// GIF: the first frame, on a screen of the size that the file gives. Decoded here, since stb_image
// of distributions has had many holes there.

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "vision/bytes.h"
#include "vision/decode.h"

namespace lapidary {

namespace {

constexpr std::uint64_t kMaxSide = 65'535;
constexpr std::size_t kScreenBytes = 13;  // The signature and the screen's description.
constexpr unsigned kMaxCodeBits = 12;
constexpr std::uint32_t kCodes = 1U << kMaxCodeBits;

enum Block : std::uint8_t { kExtension = 0x21, kImage = 0x2c };
constexpr std::uint8_t kGraphicControl = 0xf9;

struct Frame {
  std::size_t x, y, width, height;
  bool interlaced;
};

/// Codes of a growing number of bits, least significant first, out of blocks of up to 255 bytes.
class CodeReader {
 public:
  CodeReader(ByteSpan bytes, std::size_t at) : bytes_(bytes), at_(at) {}

  /// The next code, or nothing where the blocks end or the file does.
  std::optional<std::uint32_t> next(unsigned code_bits) {
    while (bits_ < code_bits) {
      if (left_ == 0) {
        if (at_ >= bytes_.size() || bytes_[at_] == 0) return std::nullopt;
        left_ = bytes_[at_++];
      }
      if (at_ >= bytes_.size()) return std::nullopt;
      buffer_ |= static_cast<std::uint32_t>(bytes_[at_++]) << bits_;
      bits_ += 8;
      --left_;
    }
    const std::uint32_t code = buffer_ & ((1U << code_bits) - 1);
    buffer_ >>= code_bits;
    bits_ -= code_bits;
    return code;
  }

 private:
  ByteSpan bytes_;
  std::size_t at_;
  std::size_t left_ = 0;  // Bytes of the block at at_.
  std::uint32_t buffer_ = 0;
  unsigned bits_ = 0;
};

/// What codes stand for: each but the plain ones another code's text and one letter more.
class Lzw {
 public:
  explicit Lzw(unsigned literal_bits) : clear_(1U << literal_bits), literal_bits_(literal_bits) {
    reset();
  }

  /// Decodes until `out` is full. Returns what is wrong, or nullptr.
  const char* decode(const EncodedPicture& picture, CodeReader& codes,
                     std::span<std::uint8_t> out) {
    constexpr unsigned kLook = 4096;  // Codes between two looks at a cancel.
    std::size_t done = 0;
    for (unsigned step = 0; done < out.size(); ++step) {
      if (step % kLook == 0) check_cancel(picture);
      const std::optional<std::uint32_t> code = codes.next(code_bits_);
      if (!code || *code == clear_ + 1) return "its pixels end too early";
      if (*code == clear_) {
        reset();
        continue;
      }
      if (*code > next_ || (*code == next_ && !previous_)) return "a code of its pixels is wrong";
      done += append(*code, out.subspan(done));
    }
    return nullptr;
  }

 private:
  void reset() {
    code_bits_ = literal_bits_ + 1;
    next_ = clear_ + 2;
    previous_.reset();
  }

  /// Writes the text of `code`, cut off where `out` ends, and learns the next code.
  std::size_t append(std::uint32_t code, std::span<std::uint8_t> out) {
    // A code that is learnt just now is the previous text and its own first letter.
    std::uint32_t from = code == next_ ? *previous_ : code;
    std::size_t length = 0;
    if (code == next_) text_[length++] = 0;  // The letter is not known yet.
    while (from >= clear_) {
      text_[length++] = letter_[from];
      from = prefix_[from];
    }
    const auto first = static_cast<std::uint8_t>(from);
    text_[length++] = first;
    if (code == next_) text_[0] = first;
    if (previous_ && next_ < kCodes) {
      prefix_[next_] = static_cast<std::uint16_t>(*previous_);
      letter_[next_] = first;
      ++next_;
      if (next_ == 1U << code_bits_ && code_bits_ < kMaxCodeBits) ++code_bits_;
    }
    previous_ = code;
    const std::size_t count = std::min(length, out.size());
    std::reverse_copy(text_.data() + length - count, text_.data() + length, out.data());
    return count;
  }

  const std::uint32_t clear_;
  const unsigned literal_bits_;
  unsigned code_bits_ = 0;
  std::uint32_t next_ = 0;  // The code to be learnt.
  std::optional<std::uint32_t> previous_;
  std::array<std::uint16_t, kCodes> prefix_{};
  std::array<std::uint8_t, kCodes> letter_{};
  std::array<std::uint8_t, kCodes + 1> text_{};
};

class GifReader {
 public:
  explicit GifReader(const EncodedPicture& picture) : picture_(picture), bytes_(picture.bytes) {}

  DecodedPicture decode() {
    need(kScreenBytes);
    std::size_t width = u16_le(bytes_, 6);
    std::size_t height = u16_le(bytes_, 8);
    sized_picture(picture_, width, height, kMaxSide);
    at_ = kScreenBytes;
    read_palette(bytes_[10]);
    skip_to_frame();
    const Frame frame = read_frame();
    // A frame that is larger than the screen makes it larger, as Pillow does it.
    width = std::max(width, frame.x + frame.width);
    height = std::max(height, frame.y + frame.height);
    DecodedPicture out = sized_picture(picture_, width, height, kMaxSide);
    check_decoding_memory(picture_, out, 1 + 3);
    const std::vector<std::uint8_t> pixels = read_pixels(frame);
    allocate_pixels(out);
    if (picture_.on_white && has_transparent_)
      std::fill_n(palette_.data() + std::size_t{3} * transparent_, 3, std::uint8_t{255});
    if (frame.width < width || frame.height < height) {
      for (std::size_t i = 0; i < width * height; ++i) put(transparent_, out.rgb.data() + 3 * i);
    }
    for (std::size_t row = 0; row < frame.height; ++row) {
      check_cancel(picture_);
      const std::size_t y = frame.y + (frame.interlaced ? interlaced_row(row, frame.height) : row);
      std::uint8_t* const to = out.rgb.data() + 3 * (y * width + frame.x);
      for (std::size_t x = 0; x < frame.width; ++x) put(pixels[row * frame.width + x], to + 3 * x);
    }
    return out;
  }

 private:
  [[noreturn]] void damaged(const std::string& how) const { refuse_damaged(picture_, "GIF", how); }

  void need(std::size_t bytes) const {
    if (bytes > bytes_.size() - at_) damaged("it ends before its first frame does");
  }

  void put(std::uint8_t index, std::uint8_t* rgb) const {
    std::copy_n(palette_.data() + std::size_t{3} * index, 3, rgb);
  }

  /// The palette at at_, if `flags` say that there is one, instead of what was there.
  void read_palette(std::uint8_t flags) {
    if ((flags & 0x80) == 0) return;
    const std::size_t bytes = std::size_t{3} << ((flags & 7) + 1);
    need(bytes);
    palette_.fill(0);
    std::copy_n(bytes_.data() + at_, bytes, palette_.data());
    at_ += bytes;
  }

  /// Past the extensions, to what follows the first frame's mark.
  void skip_to_frame() {
    for (;;) {
      need(2);
      const std::uint8_t block = bytes_[at_++];
      if (block == kImage) return;
      if (block != kExtension) damaged("it has no frame");
      const std::uint8_t label = bytes_[at_++];
      need(6);
      if (label == kGraphicControl && bytes_[at_] >= 4 && (bytes_[at_ + 1] & 1) != 0) {
        transparent_ = bytes_[at_ + 4];
        has_transparent_ = true;
      }
      for (std::size_t length = 1; length != 0;) {
        need(1);
        length = bytes_[at_++];
        need(length);
        at_ += length;
      }
    }
  }

  Frame read_frame() {
    need(9);
    const Frame frame{.x = u16_le(bytes_, at_),
                      .y = u16_le(bytes_, at_ + 2),
                      .width = u16_le(bytes_, at_ + 4),
                      .height = u16_le(bytes_, at_ + 6),
                      .interlaced = (bytes_[at_ + 8] & 0x40) != 0};
    const std::uint8_t flags = bytes_[at_ + 8];
    at_ += 9;
    if (frame.width == 0 || frame.height == 0) damaged("its first frame has no pixels");
    read_palette(flags);
    return frame;
  }

  std::vector<std::uint8_t> read_pixels(const Frame& frame) {
    need(1);
    const unsigned bits = bytes_[at_++];
    if (bits < 1 || bits > 8) damaged("its pixels have " + std::to_string(bits) + " bits");
    std::vector<std::uint8_t> pixels(frame.width * frame.height);
    CodeReader codes(bytes_, at_);
    if (const char* problem = Lzw(bits).decode(picture_, codes, pixels)) damaged(problem);
    return pixels;
  }

  /// Where the row that comes `row`-th stands: every 8th, then between those, and so on.
  static std::size_t interlaced_row(std::size_t row, std::size_t height) {
    constexpr std::size_t kPasses[][2] = {{0, 8}, {4, 8}, {2, 4}, {1, 2}};
    for (const auto& [start, step] : kPasses) {
      const std::size_t rows = height > start ? (height - start + step - 1) / step : 0;
      if (row < rows) return start + row * step;
      row -= rows;
    }
    return 0;  // No row comes after the last.
  }

  static constexpr std::array<std::uint8_t, 768> grey_palette() {
    std::array<std::uint8_t, 768> palette{};
    for (std::size_t i = 0; i < palette.size(); ++i) {
      palette[i] = static_cast<std::uint8_t>(i / 3);
    }
    return palette;
  }

  const EncodedPicture& picture_;
  const ByteSpan bytes_;
  std::size_t at_ = 0;
  bool has_transparent_ = false;
  std::uint8_t transparent_ = 0;  // Also what the screen shows outside the frame.
  std::array<std::uint8_t, 768> palette_ = grey_palette();
};

}  // namespace

DecodedPicture decode_gif(const EncodedPicture& picture) { return GifReader(picture).decode(); }

}  // namespace lapidary
