#pragma once

#include <cstdint>

#include "base/paged.h"
#include "lapidary/image.h"

namespace lapidary {

class Image::Impl {
 public:
  int width = 0;
  int height = 0;
  PagedVector<std::uint8_t> rgb;  // [height][width][3]
};

/// Takes `rgb` over: width × height × 3 bytes.
Image make_image(int width, int height, PagedVector<std::uint8_t> rgb);

}  // namespace lapidary
