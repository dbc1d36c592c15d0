#pragma once

#include <atomic>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lapidary/image_encoder.h"
#include "lapidary/model.h"
#include "model/decoder.h"
#include "runtime/checked_file.h"

namespace lapidary {

/// Files of Session::save.
inline constexpr FileKind kSavedSession{"LAPISESS", 1, "saved session"};

/// Bytes of a note, at most.
inline constexpr std::size_t kMostNote = std::size_t{64} << 20;

/// What of a saved session can be used where its keys and values cannot. Stands in the first
/// sections of the file, which are right on their own.
struct SavedTokens {
  std::vector<TokenId> ids;             // Within the vocabulary, or the image token.
  std::vector<ImageFeatures> features;  // Of the image tokens among them, in order.
  std::vector<ImageRows> images;        // Where they lie.
  std::string note;
  bool same_vision = true;  // The features come from the model's own vision file.

  /// Whether `position` lies within a picture.
  bool cuts_picture(int position) const;

  /// Throws Error(kFile) for what is damaged, of another vocabulary or made of features that are
  /// none of `model`'s, Error(kContext) for more than `context` ids, Error(kUsage) for pictures and
  /// a model without a vision file, Error(kInterrupted).
  static SavedTokens read(const CheckedReader& file, const Model& model, int context,
                          const std::atomic<bool>* cancel);
};

/// Writes these sections. `images` are those of `ids`, `features` theirs. Throws Error(kFile),
/// Error(kInterrupted), Error(kUsage) for a note that is too long.
void write_tokens(CheckedWriter& out, const Model& model, std::span<const TokenId> ids,
                  std::span<const ImageRows> images, std::span<const ImageFeatures> features,
                  std::string_view note, const std::atomic<bool>* cancel);

}  // namespace lapidary
