#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "lapidary/prompt.h"
#include "model/decoder.h"

namespace lapidary {

/// Where `images` lie when `ids` are put behind `position` ids, appended to `out`: every
/// run of image tokens is filled by the next features, as many as are as long together. The rows
/// point into the features. Throws Error(kUsage) with both numbers when runs and features do not
/// agree, or when the model has no vision file or another width.
void place_images(const Model& model, std::span<const TokenId> ids,
                  std::span<const ImageFeatures> images, int position, std::vector<ImageRows>& out);

/// Takes the first `count` ids, which end in no image, and their images from `prompt`.
void drop_front(Prompt& prompt, std::size_t count, TokenId image_token);

}  // namespace lapidary
