#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "image_flags.h"

namespace cli {

/// A picture that was read, with what the model will be shown of it; not encoded yet.
struct Picture {
  std::string name;  ///< Its file, for messages.
  lapidary::Image image;
  std::vector<lapidary::ImageView> views;

  /// "cat.jpg: 640 x 480 pixels, 3 views, 797 tokens"
  std::string describe(const lapidary::Tokenizer& tokenizer) const;
};

/// Throws Error(kFile) for what is no picture, Error(kUsage) for options out of range.
Picture read_picture(const std::string& path, const ImageFlags& flags, std::uint64_t memory_limit);
std::vector<Picture> read_pictures(const ImageFlags& flags, std::uint64_t memory_limit);

/// A picture of bytes that are there, or whose file `image` was.
Picture make_picture(const std::string& name, lapidary::Image image, const ImageFlags& flags);

/// What is left of `limit` bytes when `taken` are: 0, no limit, where there is none, and else at
/// least 1, which nothing fits.
std::uint64_t memory_left(std::uint64_t limit, std::uint64_t taken);

/// What a limit leaves for pictures and requests beside the model, its vision half, a session and
/// `beside`, a draft model; 0: there is no limit.
std::uint64_t memory_left(const ModelFlags& flags, const lapidary::Model& model,
                          std::uint64_t beside);

/// What the pixels of `pictures` take.
std::uint64_t decoded_bytes(std::span<const Picture> pictures);

/// Throws Error(kContext) when a text of `bytes` cannot fit `context` tokens, however it is
/// tokenized: that takes seconds for some megabytes.
void check_text(const lapidary::Tokenizer& tokenizer, int context, std::size_t bytes);
void check_text(const lapidary::Session& session, std::size_t bytes);

/// Stands for a picture in a prompt whose ids are wanted before it is encoded: features without
/// values.
lapidary::EncodedImage unencoded(const Picture& picture, const lapidary::Model& model);

/// Throws Error(kContext) when a prompt of `tokens` leaves no room in `context` for `to_draw` more:
/// better said before pictures are encoded and the prompt is computed, which take long.
void check_room(int context, std::size_t tokens, std::size_t to_draw = 1);
void check_room(const lapidary::Session& session, std::size_t tokens, std::size_t to_draw = 1);

/// Encodes pictures, with progress on a terminal; `interrupted` stops it between two layers
/// (Error(kInterrupted)). The vision half of the model is read when the first picture comes.
class PictureEncoder {
 public:
  /// `held_bytes` count against the memory limit beside it: a session's.
  PictureEncoder(const lapidary::Model& model, const ModelFlags& flags, const ImageFlags& images,
                 std::uint64_t held_bytes = 0);

  /// Throws Error(kUsage) when the model has no vision file.
  void require_vision() const;

  lapidary::EncodedImage encode(const Picture& picture, const std::string& label = "encoding");

  /// Fills `prompt`, which was made with unencoded() pictures, with what they are encoded to.
  void fill(lapidary::Prompt& prompt, std::span<const Picture> pictures);

  double load_seconds() const { return load_seconds_; }  ///< Reading the weights.
  double seconds() const { return seconds_; }            ///< Encoding, altogether.
  int views() const { return views_; }                   ///< Asked for, altogether.
  int cached() const { return cached_; }                 ///< Of those, found in the cache.

 private:
  lapidary::Model model_;
  lapidary::ImageEncoderOptions options_;
  lapidary::ImageOptions shown_;
  bool quiet_;
  bool on_disk_;
  std::optional<lapidary::ImageEncoder> encoder_;
  double load_seconds_ = 0;
  double seconds_ = 0;
  int views_ = 0;
  int cached_ = 0;
};

}  // namespace cli
