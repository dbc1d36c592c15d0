#pragma once

#include <cstdint>
#include <vector>

#include "lapidary/image.h"

namespace lapidary {

class Image::Impl {
 public:
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> rgb;  // [height][width][3]
};

/// Takes `rgb` over: width × height × 3 bytes.
Image make_image(int width, int height, std::vector<std::uint8_t> rgb);

}  // namespace lapidary
