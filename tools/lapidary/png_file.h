#pragma once

#include <string>

#include "lapidary/image.h"

namespace cli {

/// Writes `image` as a PNG file. Throws Error(kFile) when `path` cannot be opened, Error(kFailed)
/// with the reason when it cannot be written.
void write_png(const std::string& path, const lapidary::Image& image);

}  // namespace cli
