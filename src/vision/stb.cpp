#include "vision/stb.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

// What stb asks for is cleared: a damaged stream can make it show bytes that it never wrote. One
// request is bounded too: a few kilobytes of a PNG's data could otherwise expand to gigabytes.
namespace {

thread_local std::size_t max_bytes = 0;
thread_local std::size_t max_grown = 0;

void* stb_allocate(std::size_t bytes) {
  return bytes <= max_bytes ? std::calloc(bytes, 1) : nullptr;
}

void* stb_reallocate(void* old, std::size_t old_bytes, std::size_t bytes) {
  if (bytes > max_grown) return nullptr;
  void* const moved = std::realloc(old, bytes);
  if (moved != nullptr && bytes > old_bytes) {
    std::memset(static_cast<char*>(moved) + old_bytes, 0, bytes - old_bytes);
  }
  return moved;
}

}  // namespace

#define STBI_MALLOC(bytes) stb_allocate(bytes)
#define STBI_REALLOC_SIZED(old, old_bytes, bytes) stb_reallocate(old, old_bytes, bytes)
#define STBI_FREE(old) std::free(old)
#define STBI_ONLY_PNG
#ifndef LAPIDARY_JPEG
#define STBI_ONLY_JPEG
#endif
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#include <stb_image.h>

namespace lapidary {

const char* decode_with_stb(std::span<const std::uint8_t> bytes, std::size_t max_allocation,
                            std::size_t max_grown_to, bool alpha, DecodedPicture& into) {
  max_bytes = max_allocation;
  max_grown = max_grown_to;
  int width = 0;
  int height = 0;
  int channels = 0;
  const std::unique_ptr<stbi_uc, decltype(&std::free)> pixels(
      stbi_load_from_memory(bytes.data(), static_cast<int>(bytes.size()), &width, &height,
                            &channels, alpha ? 4 : 3),
      std::free);
  if (pixels == nullptr) return stbi_failure_reason();
  if (width != into.width || height != into.height) return "its size changes";
  allocate_pixels(into);
  if (alpha) {
    put_on_white({pixels.get(), into.rgb.size() / 3 * 4}, into.rgb.data());
  } else {
    std::copy_n(pixels.get(), into.rgb.size(), into.rgb.data());
  }
  return nullptr;
}

#ifndef LAPIDARY_JPEG
bool jpeg_size_with_stb(std::span<const std::uint8_t> bytes, int& width, int& height) {
  max_bytes = std::size_t{1} << 20;
  int channels = 0;
  return stbi_info_from_memory(bytes.data(), static_cast<int>(bytes.size()), &width, &height,
                               &channels) != 0;
}
#endif

}  // namespace lapidary
