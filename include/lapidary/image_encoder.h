#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lapidary/export.h"
#include "lapidary/image.h"
#include "lapidary/model.h"
#include "lapidary/stats.h"

namespace lapidary {

/// What the encoder made of one view of a picture: one row a soft token, in the text model's width.
/// Cheap to copy; immutable.
struct ImageFeatures {
  int tokens = 0;                                    ///< 256.
  int width = 0;                                     ///< Of the text model.
  std::shared_ptr<const std::vector<float>> values;  ///< [tokens][width]
};

/// A picture ready for a prompt.
struct EncodedImage {
  std::vector<ImageView> views;         ///< The whole picture, then the crops.
  std::vector<ImageFeatures> features;  ///< One a view.
  int cached = 0;                       ///< Views whose features were found in the cache.
  double seconds = 0;                   ///< Wall-clock time, loading the weights left out.
};

/// How pictures are encoded.
struct ImageEncoderOptions {
  int threads = 0;                 ///< 0: physical cores within the cgroup's quota and affinity.
  std::uint64_t memory_limit = 0;  ///< Bytes for all weights and the encoder's buffers; 0: what the
                                   ///< machine has available.
  std::uint64_t held_bytes = 0;    ///< What else counts against the limit: sessions, say.
};

/// Turns pictures into features with the vision half of a model. Belongs to one thread at a time
/// and to the process that made it: another thread's call meanwhile, and any in the child of a
/// fork, throws Error(kUsage). The weights are read when the first picture comes, once for all
/// encoders of a model; features are kept in the model's cache. An empty one, as made without
/// arguments or moved from, can be assigned to and tested; every other use throws Error(kUsage).
class LAPIDARY_API ImageEncoder {
 public:
  ImageEncoder() noexcept;  ///< An empty one.

  /// Throws Error(kUsage) when `model` was loaded without a vision file, Error(kFailed) when not as
  /// many threads can be made as asked.
  explicit ImageEncoder(const Model& model, const ImageEncoderOptions& options = {});
  ~ImageEncoder();
  ImageEncoder(ImageEncoder&&) noexcept;             ///< Leaves an empty one.
  ImageEncoder& operator=(ImageEncoder&&) noexcept;  ///< Leaves an empty one.

  /// Whether this is an encoder, not an empty one.
  explicit operator bool() const noexcept { return impl_ != nullptr; }

  /// Encodes every view of `image`. `progress` gets layers done of all views' layers, none when
  /// everything is cached. The same bits on any number of threads and on every instruction set.
  /// Throws Error(kInterrupted) some milliseconds after `cancel` is set, Error(kMemory),
  /// Error(kFile) for a vision file that is damaged, Error(kUsage) for an empty picture and options
  /// out of range. What `progress` throws passes unchanged.
  EncodedImage encode(const Image& image, const ImageOptions& options = {},
                      const Progress& progress = {}, const std::atomic<bool>* cancel = nullptr);

  /// Reads the weights now, if no encoder of this model has; `progress` gets bytes. Throws
  /// Error(kFile) for a file that is damaged, Error(kMemory) over the budget, Error(kInterrupted)
  /// some milliseconds after `cancel` is set: a later call begins anew. What `progress` throws
  /// passes unchanged.
  void load(const Progress& progress = {}, const std::atomic<bool>* cancel = nullptr);

  std::uint64_t memory_bytes() const;  ///< Work buffers that encode() takes and gives back.

 private:
  class LAPIDARY_NO_EXPORT Impl;
  std::unique_ptr<Impl> impl_;
};

/// The vision file that lies beside `model_path` and fits it (a `.gguf` file with "mmproj" in its
/// name, whose projector has the model's width; of a folder with a tower, the folder), or an empty
/// string when there is none or more than one. Reads headers only. May be called from any thread.
LAPIDARY_API std::string find_vision_file(const std::string& model_path);

}  // namespace lapidary
