// GIF through giflib: the first frame, on a screen of the size that the file gives.

#include <gif_lib.h>

#include <algorithm>
#include <array>
#include <memory>
#include <new>
#include <string>

#include "vision/bytes.h"
#include "vision/decode.h"

namespace lapidary {

namespace {

constexpr std::uint64_t kMaxSide = 65'535;
constexpr std::size_t kScreenBytes = 13;  // The signature and the screen's description.

struct CloseGif {
  void operator()(GifFileType* file) const { DGifCloseFile(file, nullptr); }
};

class GifReader {
 public:
  explicit GifReader(const EncodedPicture& picture) : picture_(picture), rest_(picture.bytes) {}

  DecodedPicture decode() {
    if (rest_.size() < kScreenBytes) damaged("it ends before its first frame does");
    sized_picture(picture_, u16_le(rest_, 6), u16_le(rest_, 8), kMaxSide);
    int error = 0;
    file_.reset(DGifOpen(&rest_, read_bytes, &error));
    if (file_ == nullptr) fail(error);
    find_frame();
    const GifImageDesc& frame = file_->Image;
    const std::size_t left = size_of(frame.Left), top = size_of(frame.Top);
    const std::size_t width = size_of(frame.Width), height = size_of(frame.Height);
    if (width == 0 || height == 0) damaged("its first frame has no pixels");
    // A frame that is larger than the screen makes it larger, as Pillow does it.
    DecodedPicture out = sized_picture(picture_, std::max(size_of(file_->SWidth), left + width),
                                       std::max(size_of(file_->SHeight), top + height), kMaxSide);
    check_decoding_memory(picture_, out, 3);
    allocate_pixels(out);
    choose_palette();
    const auto stride = static_cast<std::size_t>(out.width);
    if (width * height < out.rgb.size() / 3) {
      for (std::size_t i = 0; i < out.rgb.size(); i += 3) put(transparent_, out.rgb.data() + i);
    }
    std::vector<GifPixelType> row(width);
    for (std::size_t i = 0; i < height; ++i) {
      check_cancel(picture_);
      check(DGifGetLine(file_.get(), row.data(), frame.Width));
      const std::size_t y = top + (frame.Interlace ? interlaced_row(i, height) : i);
      std::uint8_t* const to = out.rgb.data() + 3 * (y * stride + left);
      for (std::size_t x = 0; x < width; ++x) put(row[x], to + 3 * x);
    }
    return out;
  }

 private:
  [[noreturn]] void damaged(const std::string& how) const { refuse_damaged(picture_, "GIF", how); }

  [[noreturn]] void fail(int error) const {
    if (error == D_GIF_ERR_NOT_ENOUGH_MEM) throw std::bad_alloc();
    if (error == D_GIF_ERR_READ_FAILED || error == D_GIF_ERR_EOF_TOO_SOON)
      damaged("it ends before its first frame does");
    if (error == D_GIF_ERR_IMAGE_DEFECT) damaged("a code of its pixels is wrong");
    const char* const how = GifErrorString(error);
    damaged(how == nullptr ? "it cannot be read" : how);
  }
  void check(int result) const {
    if (result == GIF_ERROR) fail(file_->Error);
  }

  static int read_bytes(GifFileType* file, GifByteType* to, int count) {
    ByteSpan& rest = *static_cast<ByteSpan*>(file->UserData);
    const std::size_t taken = std::min(static_cast<std::size_t>(count), rest.size());
    std::copy_n(rest.data(), taken, to);
    rest = rest.subspan(taken);
    return static_cast<int>(taken);
  }

  /// giflib's numbers are 16 bits of the file each.
  static std::size_t size_of(GifWord value) { return static_cast<std::size_t>(value); }

  /// Past the extensions, to the pixels of the first frame.
  void find_frame() {
    for (;;) {
      GifRecordType record = UNDEFINED_RECORD_TYPE;
      check(DGifGetRecordType(file_.get(), &record));
      if (record == IMAGE_DESC_RECORD_TYPE) return check(DGifGetImageDesc(file_.get()));
      if (record != EXTENSION_RECORD_TYPE) damaged("it has no frame");
      read_extension();
    }
  }

  void read_extension() {
    int kind = 0;
    GifByteType* block = nullptr;  // Its length, then its bytes.
    check(DGifGetExtension(file_.get(), &kind, &block));
    GraphicsControlBlock control;
    if (kind == GRAPHICS_EXT_FUNC_CODE && block != nullptr &&
        DGifExtensionToGCB(block[0], block + 1, &control) == GIF_OK &&
        control.TransparentColor != NO_TRANSPARENT_COLOR) {
      transparent_ = static_cast<std::uint8_t>(control.TransparentColor);
      has_transparent_ = true;
    }
    while (block != nullptr) check(DGifGetExtensionNext(file_.get(), &block));
  }

  /// The frame's own colours, else the screen's, else grey; black where neither has one.
  void choose_palette() {
    const ColorMapObject* map = file_->Image.ColorMap;
    if (map == nullptr) map = file_->SColorMap;
    for (std::size_t i = 0; i < palette_.size(); ++i) {
      if (map == nullptr) {
        palette_[i].fill(static_cast<std::uint8_t>(i));
      } else if (i < static_cast<std::size_t>(map->ColorCount)) {
        palette_[i] = {map->Colors[i].Red, map->Colors[i].Green, map->Colors[i].Blue};
      }
    }
    if (picture_.on_white && has_transparent_) palette_[transparent_].fill(255);
  }

  void put(std::uint8_t index, std::uint8_t* rgb) const { std::ranges::copy(palette_[index], rgb); }

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

  const EncodedPicture& picture_;
  ByteSpan rest_;  // What giflib has not read yet.
  std::unique_ptr<GifFileType, CloseGif> file_;
  bool has_transparent_ = false;
  std::uint8_t transparent_ = 0;  // Also what the screen shows outside the frame.
  std::array<std::array<std::uint8_t, 3>, 256> palette_{};
};

}  // namespace

DecodedPicture decode_gif(const EncodedPicture& picture) { return GifReader(picture).decode(); }

}  // namespace lapidary
