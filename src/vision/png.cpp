// PNG: the chunks are walked and checked here; stb_image gets a clean stream of what makes pixels.

#include <algorithm>
#include <array>
#include <string>

#include "base/format.h"
#include "vision/bytes.h"
#include "vision/decode.h"
#include "vision/stb.h"

namespace lapidary {

namespace {

using namespace std::string_view_literals;

constexpr std::uint64_t kMaxSide = std::uint64_t{1} << 24;  // stb's own.
constexpr std::size_t kSignatureBytes = 8;
constexpr std::size_t kHeaderBytes = 13;
constexpr std::size_t kPaletteBytes = 256 * 3;

enum Colour : std::uint8_t { kGrey = 0, kRgb = 2, kPalette = 3, kGreyAlpha = 4, kRgba = 6 };

struct Header {
  std::uint32_t width;
  std::uint32_t height;
  unsigned depth;
  unsigned colour;
  bool interlaced;
};

struct Chunk {
  std::string_view type;
  ByteSpan data;
};

constexpr std::array<std::uint32_t, 256> crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0xedb88320U : crc >> 1;
    table[i] = crc;
  }
  return table;
}

std::uint32_t crc32(ByteSpan bytes) {
  static constexpr std::array<std::uint32_t, 256> kTable = crc_table();
  std::uint32_t crc = ~0U;
  for (const std::uint8_t byte : bytes) crc = crc >> 8 ^ kTable[(crc ^ byte) & 255];
  return ~crc;
}

class PngReader {
 public:
  explicit PngReader(const EncodedPicture& picture) : picture_(picture) {}

  DecodedPicture decode() {
    at_ = kSignatureBytes;
    const Chunk first = next();
    if (first.type != "IHDR"sv) damaged("its first chunk is not its header");
    read_header(first.data);
    DecodedPicture out = sized_picture(picture_, header_.width, header_.height, kMaxSide);
    out.orientation = read_chunks();
    const bool alpha = picture_.on_white && has_alpha();
    check_memory(out, alpha);
    const char* const problem =
        decode_with_stb(clean_stream(first.data), max_allocation(), max_inflated(), alpha, out);
    if (problem != nullptr) damaged(problem);
    return out;
  }

 private:
  [[noreturn]] void damaged(const std::string& how) const { refuse_damaged(picture_, "PNG", how); }

  /// Filtered rows (max_inflated()) and pixels of up to 8 bytes, or pixels and ours. Beside them
  /// the data of the file lies there twice: here and in stb.
  void check_memory(const DecodedPicture& out, bool alpha) const {
    const std::uint64_t raw = (channels() * header_.depth + 7) / 8;
    const std::uint64_t given = alpha ? 4 : 3;
    const std::uint64_t rows = header_.interlaced ? 4 * raw : 2 * raw;
    const std::uint64_t pixels = std::uint64_t{header_.width} * header_.height;
    const std::uint64_t data = (2 * std::uint64_t{data_bytes_} + pixels - 1) / pixels;
    check_decoding_memory(picture_, out, std::max(rows + raw, raw + given + 3) + data);
  }

  /// The chunk at at_, which moves on. What pixels depend on must fit its checksum.
  Chunk next() {
    const ByteSpan bytes = picture_.bytes;
    if (bytes.size() - at_ < 12) damaged("its last chunk is missing");
    const std::size_t length = u32_be(bytes, at_);
    const ByteSpan typed = bytes.subspan(at_ + 4);
    const Chunk chunk{{reinterpret_cast<const char*>(typed.data()), 4}, {}};
    if (!std::ranges::all_of(chunk.type, [](char letter) {
          return (letter >= 'A' && letter <= 'Z') || (letter >= 'a' && letter <= 'z');
        })) {
      damaged(format("expected a chunk at byte {}", at_));
    }
    const std::string name(chunk.type);
    if (length > typed.size() - 8) damaged("its chunk " + name + " is cut off");
    const bool critical = (name[0] & 32) == 0;
    if ((critical || name == "eXIf") &&
        crc32(typed.first(length + 4)) != u32_be(typed, length + 4)) {
      damaged("the checksum of its chunk " + name + " is wrong");
    }
    at_ += length + 12;
    return {chunk.type, typed.subspan(4, length)};
  }

  void read_header(ByteSpan data) {
    if (data.size() != kHeaderBytes) damaged("its header has another length");
    header_ = {.width = u32_be(data, 0),
               .height = u32_be(data, 4),
               .depth = data[8],
               .colour = data[9],
               .interlaced = data[12] == 1};
    const unsigned depth = header_.depth;
    const bool small = depth == 1 || depth == 2 || depth == 4;
    const bool large = depth == 8 || depth == 16;
    const unsigned colour = header_.colour;
    const bool known = colour == kGrey ? small || large
                       : colour == kPalette
                           ? small || depth == 8
                           : large && (colour == kRgb || colour == kGreyAlpha || colour == kRgba);
    if (!known) {
      damaged(format("there is no colour type {} with {} bits", colour, depth));
    }
    if (data[10] != 0 || data[11] != 0 || data[12] > 1) {
      damaged("its header has an unknown compression, filter or interlace method");
    }
  }

  /// Collects the palette and counts the data up to the end chunk; returns the orientation.
  int read_chunks() {
    int orientation = 1;
    for (;;) {
      const std::size_t chunk_at = at_;
      const Chunk chunk = next();
      if (chunk.type == "IEND"sv) break;
      if (chunk.type == "IDAT"sv) {
        if (data_bytes_ == 0) data_at_ = chunk_at;
        data_bytes_ += chunk.data.size();
      } else if (chunk.type == "PLTE"sv) {
        if (chunk.data.empty() || chunk.data.size() > kPaletteBytes || chunk.data.size() % 3 != 0 ||
            !palette_.empty() || data_bytes_ != 0) {
          damaged("its palette has a wrong size or place");
        }
        palette_.assign(chunk.data.begin(), chunk.data.end());
      } else if (chunk.type == "tRNS"sv) {
        if (data_bytes_ == 0 && transparent_size_fits(chunk.data.size()))
          transparent_.assign(chunk.data.begin(), chunk.data.end());
      } else if (chunk.type == "eXIf"sv) {
        orientation = exif_orientation(chunk.data);
      } else if ((chunk.type[0] & 32) == 0) {
        damaged("its chunk " + std::string(chunk.type) + " is unknown or stands twice");
      }
    }
    if (data_bytes_ == 0) damaged("it has no pixels");
    if (header_.colour == kPalette && palette_.empty()) damaged("it has no palette");
    return orientation;
  }

  std::size_t channels() const {
    return header_.colour == kRgba        ? 4
           : header_.colour == kRgb       ? 3
           : header_.colour == kGreyAlpha ? 2
                                          : 1;
  }
  bool has_alpha() const {
    return header_.colour == kRgba || header_.colour == kGreyAlpha || !transparent_.empty();
  }
  /// One colour, or the alpha of the first colours of the palette. Anything else says nothing.
  bool transparent_size_fits(std::size_t size) const {
    return header_.colour == kGrey      ? size == 2
           : header_.colour == kRgb     ? size == 6
           : header_.colour == kPalette ? size > 0 && size <= palette_.size() / 3
                                        : false;
  }

  /// Header, palette, transparency where it counts, data, end. The palette gets its full length, in
  /// black, so that every index has a colour.
  PagedVector<std::uint8_t> clean_stream(ByteSpan header) {
    const ByteSpan signature = picture_.bytes.first(kSignatureBytes);
    PagedVector<std::uint8_t> out;
    out.reserve(data_bytes_ + kPaletteBytes + 256);
    out.assign(signature.begin(), signature.end());
    const auto begin = [&](std::string_view type, std::size_t bytes) {
      for (int shift = 24; shift >= 0; shift -= 8)
        out.push_back(static_cast<std::uint8_t>(bytes >> shift));
      out.insert(out.end(), type.begin(), type.end());
    };
    const auto end = [&] { out.insert(out.end(), 4, 0); };  // stb does not look at checksums.
    const auto append = [&](std::string_view type, ByteSpan data) {
      begin(type, data.size());
      out.insert(out.end(), data.begin(), data.end());
      end();
    };
    append("IHDR", header);
    if (header_.colour == kPalette) {
      palette_.resize(kPaletteBytes);
      append("PLTE", palette_);
    }
    if (picture_.on_white && !transparent_.empty()) append("tRNS", transparent_);
    begin("IDAT", data_bytes_);
    append_data(out);
    end();
    append("IEND", {});
    return out;
  }

  /// What all data chunks hold. They were checked by read_chunks().
  void append_data(PagedVector<std::uint8_t>& out) const {
    std::size_t left = data_bytes_;
    for (std::size_t at = data_at_; left > 0;) {
      const std::size_t length = u32_be(picture_.bytes, at);
      if (stands_at(picture_.bytes, at + 4, "IDAT"sv)) {
        const ByteSpan data = picture_.bytes.subspan(at + 8, length);
        out.insert(out.end(), data.begin(), data.end());
        left -= length;
      }
      at += length + 12;
    }
  }

  /// More than what stb needs for this header: at most 8 bytes a pixel, and for the filtered rows
  /// at most twice their size, which for interlaced ones includes seven times their ends.
  std::size_t max_allocation() const {
    const std::size_t width = header_.width;
    const std::size_t height = header_.height;
    const std::size_t rows = header_.interlaced ? 2 * height + 7 : height;
    const std::size_t pixels = width * height * 8 + 16 * rows;
    return std::max(2 * pixels, data_bytes_) + (std::size_t{1} << 16);
  }

  /// What data may expand to: stb begins with the rows of a picture that is not interlaced, whose
  /// short ones may take more, and doubles. A stream may be some longer than it has to.
  std::size_t max_inflated() const {
    const std::size_t row = 1 + (std::size_t{header_.width} * header_.depth + 7) / 8 * channels();
    return (header_.interlaced ? 4 : 2) * row * header_.height + 4096;
  }

  const EncodedPicture& picture_;
  std::size_t at_ = 0;
  Header header_{};
  std::vector<std::uint8_t> palette_;
  std::vector<std::uint8_t> transparent_;
  std::size_t data_at_ = 0;     // The first chunk of data.
  std::size_t data_bytes_ = 0;  // In all of them.
};

}  // namespace

DecodedPicture decode_png(const EncodedPicture& picture) { return PngReader(picture).decode(); }

}  // namespace lapidary
