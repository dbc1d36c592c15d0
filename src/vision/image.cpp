#include "lapidary/image.h"

#include <string>
#include <utility>

#include "base/boundary.h"
#include "base/format.h"
#include "lapidary/error.h"
#include "vision/image_impl.h"

namespace lapidary {

Image make_image(int width, int height, PagedVector<std::uint8_t> rgb) {
  return Image(std::make_shared<const Image::Impl>(Image::Impl{width, height, std::move(rgb)}));
}

Image Image::from_rgb(int width, int height, std::span<const std::uint8_t> rgb) {
  return at_boundary([&] {
    const std::uint64_t pixels =
        static_cast<std::uint64_t>(width) * static_cast<std::uint64_t>(height);
    if (width < 1 || height < 1 || pixels > kMaxPixels) {
      throw Error(ErrorCode::kUsage, format("a picture must have 1 to {} pixels, not {}x{}",
                                            kMaxPixels, width, height));
    }
    if (rgb.size() != pixels * 3) {
      throw Error(ErrorCode::kUsage, format("a picture of {}x{} has {} bytes, not {}", width,
                                            height, pixels * 3, rgb.size()));
    }
    return make_image(width, height, {rgb.begin(), rgb.end()});
  });
}

const Image::Impl& Image::impl() const {
  if (impl_ == nullptr) at_boundary([] { throw_empty("the picture"); });
  return *impl_;
}

int Image::width() const { return impl().width; }
int Image::height() const { return impl().height; }
std::span<const std::uint8_t> Image::rgb() const { return impl().rgb; }

}  // namespace lapidary
