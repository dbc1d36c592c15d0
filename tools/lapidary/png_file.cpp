#include "png_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <string_view>

#include "lapidary/error.h"
#include "terminal.h"

#define STBI_WRITE_NO_STDIO
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb_image_write.h>

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;

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
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) throw Error(ErrorCode::kFile, "cannot write " + path + ": " + std::strerror(errno));
  const int written = write_all(file, bytes);
  const int closed = ::close(file) == 0 ? 0 : errno;
  if (const int error = written != 0 ? written : closed; error != 0)
    throw Error(ErrorCode::kFailed, "cannot write " + path + ": " + std::strerror(error));
}

}  // namespace cli
