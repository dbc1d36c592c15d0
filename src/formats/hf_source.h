#pragma once

#include <memory>
#include <string>

#include "formats/weight_source.h"

namespace lapidary {

/// Whether `path` is a folder, which open_hf() opens.
bool is_folder(const std::string& path);

/// The source that a folder is, in the layout that Hugging Face publishes models in; see
/// open_source(). Norms come as F32 with the 1 that the folder leaves out.
std::unique_ptr<WeightSource> open_hf(const std::string& path, Content content);

/// The folder's config.json and all its tensors, in their own words; see list_file().
FileInfo list_hf(const std::string& path);

}  // namespace lapidary
