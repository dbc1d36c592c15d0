#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lapidary/export.h"

namespace lapidary {

/// How a picture file becomes RGB.
struct ImageLoadOptions {
  /// What becomes of transparency.
  enum class Alpha {
    kOnWhite,  ///< What is transparent is shown on white, as on a page.
    kDrop,     ///< Colours as the file has them under any alpha, as Gemma 3's own processor does.
  };
  Alpha alpha = Alpha::kOnWhite;   ///< What becomes of transparency.
  std::uint64_t memory_limit = 0;  ///< Bytes that decoding may take at once, the file and the
                                   ///< pixels included; 0: no limit but those of Image.
  const std::atomic<bool>* cancel =
      nullptr;  ///< Set from elsewhere (a signal handler) to stop: JPEG, BMP and GIF within some
                ///< milliseconds, the others between reading, decoding and turning. Looked at
                ///< during the call only.
};

/// A decoded picture: 8-bit RGB, row after row from the top left. Immutable, cheap to copy, safe to
/// share between threads. An empty one, as made without arguments or moved from, can be assigned to
/// and tested; every other use throws Error(kUsage).
class LAPIDARY_API Image {
 public:
  static constexpr std::uint64_t kMaxPixels = 100'000'000;  ///< Of any picture; more is refused.
  static constexpr std::uint64_t kMaxFileBytes = std::uint64_t{64}
                                                 << 20;  ///< Of any file; more is refused.

  Image() noexcept = default;  ///< An empty one.

  /// Whether this is a picture, not an empty one.
  explicit operator bool() const noexcept { return impl_ != nullptr; }

  /// Reads a PNG, JPEG, WebP, BMP or GIF (its first frame) file, and HEIC, AVIF and TIFF (its first
  /// page) where the libraries were there at build time; what it is, its first bytes tell.
  /// Orientation is applied, grey and palettes expanded, 16 bits reduced to 8.
  /// Throws Error(kFile), naming the file, for what is no picture, is damaged, or exceeds the
  /// limits above, Error(kMemory) for what exceeds `options.memory_limit` (all checked against the
  /// header, before anything is decoded), Error(kInterrupted) once `options.cancel` is set.
  static Image load(const std::string& path, const ImageLoadOptions& options = {});

  /// The same from memory, with the same errors; `name` stands in messages.
  static Image decode(std::span<const std::byte> bytes, const std::string& name = "the picture",
                      const ImageLoadOptions& options = {});

  /// Copies width × height × 3 bytes, laid out as rgb(). Throws Error(kUsage) when the sizes do not
  /// agree or exceed kMaxPixels, Error(kMemory).
  static Image from_rgb(int width, int height, std::span<const std::uint8_t> rgb);

  int width() const;   ///< Pixels. Error(kUsage) when empty, as the next two.
  int height() const;  ///< Pixels.

  /// [height][width][3], valid as long as a copy of the picture is there.
  std::span<const std::uint8_t> rgb() const;

  /// @cond Of the library's own.
  class LAPIDARY_NO_EXPORT Impl;
  explicit Image(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  /// @endcond

 private:
  const Impl& impl() const;

  std::shared_ptr<const Impl> impl_;
};

/// A part of a picture that is shown to the encoder, in pixels of the picture.
struct ImageView {
  int x = 0;       ///< Of its left column.
  int y = 0;       ///< Of its top row.
  int width = 0;   ///< Columns.
  int height = 0;  ///< Rows.

  bool operator==(const ImageView&) const = default;  ///< The same part.
};

/// Which parts of a picture the model sees besides the whole. Each costs 256 tokens and some words.
struct ImageOptions {
  /// Cuts wide and tall pictures into strips, as Gemma 3's own processor does: at least `min_ratio`
  /// long to short, no strip under `min_crop` pixels, at most `max_crops` strips.
  bool pan_and_scan = false;
  int min_crop = 256;      ///< Pixels of a strip's shorter side, for pan_and_scan; at least 1.
  int max_crops = 4;       ///< Strips, for pan_and_scan; at least 2.
  double min_ratio = 1.2;  ///< Longer side to shorter, for pan_and_scan; at least 1.

  /// Cuts a grid instead, square pictures too: for scans and dense documents. `tile_columns` ×
  /// `tile_rows`, or with `auto_tiles` as many as keep a tile's pixels (896 × 896), at most
  /// `max_tiles` of them. Beyond what the model was trained with; the same words go into the
  /// prompt.
  bool auto_tiles = false;
  int tile_columns = 0;  ///< Of a grid that is asked for; 0, with tile_rows: none.
  int tile_rows = 0;     ///< Of a grid that is asked for; 0, with tile_columns: none.
  int max_tiles = 16;    ///< Most tiles of either grid.
};

/// What a picture of this size is shown as: the whole first, then the crops in reading order.
/// Sizes are in pixels. Throws Error(kUsage) for a size without pixels and options out of range.
/// May be called from any thread.
LAPIDARY_API std::vector<ImageView> image_views(int width, int height, const ImageOptions& options);

/// `view` of `image` as the encoder gets it: size × size pixels, bilinear with antialiasing, bytes
/// as Pillow makes them. `threads` as everywhere, 0: physical cores. Throws Error(kUsage) when the
/// view does not lie in the picture, for a size or number of threads out of range, for an empty
/// picture, or where $LAPIDARY_ISA names what this machine does not have,
/// Error(kMemory), Error(kFailed) when the threads cannot be made. May be called from any thread;
/// makes a team of its own meanwhile.
LAPIDARY_API Image encoder_input(const Image& image, const ImageView& view, int size = 896,
                                 int threads = 0);

}  // namespace lapidary
