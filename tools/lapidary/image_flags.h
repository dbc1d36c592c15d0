#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model_flags.h"

namespace cli {

/// Which pictures, and how the model is shown them.
struct ImageFlags {
  std::vector<std::string> images;
  std::string vision;        ///< The vision file; empty: the one beside the model.
  std::string cache_folder;  ///< Empty: features are kept in memory only.
  std::uint64_t cache_bytes = lapidary::ModelOptions().image_cache_bytes;  ///< In memory.
  std::string alpha = "white";
  std::string tiles;
  lapidary::ImageOptions shown;  ///< Without `tiles`.

  lapidary::ImageOptions options() const;

  /// How files are read, within `memory_limit` bytes (0: no limit).
  lapidary::ImageLoadOptions loading(std::uint64_t memory_limit) const;
};

/// `--mmproj` alone.
void add_vision_flag(CLI::App& app, ImageFlags& flags);

/// `--mmproj` and how pictures are shown and kept, for a command that gets pictures otherwise.
void add_view_flags(CLI::App& app, ImageFlags& flags);

/// All of it, `--image` included.
void add_image_flags(CLI::App& app, ImageFlags& flags);

/// Whether a command needs the vision half of its model.
enum class Vision {
  kIfGiven,  ///< No picture will come; a file that is named is checked all the same.
  kIfThere,  ///< Pictures may come.
  kNeeded,   ///< Without it nothing can be done: Error(kUsage).
};

/// As load_model, once it is known that the whole of it will fit (check_memory), with the vision
/// file of the flags or the one beside the model. Only its header is read.
lapidary::Model load_model(const ModelFlags& model, const ImageFlags& images, Vision vision,
                           lapidary::ModelOptions options = {}, bool session = true,
                           std::uint64_t beside = 0);

/// Throws Error(kUsage) when `out` is the model, its vision file or a picture, which would be lost.
void refuse_inputs(const std::string& out, const ModelFlags& model, const ImageFlags& images);

/// What is wrong when a picture meets a model that was loaded without a vision file.
extern const char* const kNoVisionFile;

}  // namespace cli
