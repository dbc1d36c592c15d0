#include "png_file.h"

#include <new>
#include <string_view>

#include "output_file.h"

#define STBI_WRITE_NO_STDIO
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb_image_write.h>

namespace cli {

namespace {

std::string encode_png(const lapidary::Image& image) {
  std::string bytes;
  const auto take = [](void* context, void* data, int size) {
    static_cast<std::string*>(context)->append(static_cast<const char*>(data),
                                               static_cast<std::size_t>(size));
  };
  const int row_bytes = 3 * image.width();
  if (stbi_write_png_to_func(take, &bytes, image.width(), image.height(), 3, image.rgb().data(),
                             row_bytes) == 0)
    throw std::bad_alloc();
  return bytes;
}

}  // namespace

void write_png(const std::string& path, const lapidary::Image& image) {
  const std::string bytes = encode_png(image);
  OutputFile file(path);
  file.write(bytes);
  file.keep();
}

}  // namespace cli
