#include "base/paged.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>  // Defines __GLIBC__ where that is the library.
#include <cstring>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace lapidary {

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
constexpr bool kSanitized = __has_feature(address_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

/// glibc takes blocks from this size on from the system too, at first.
constexpr std::size_t kLarge = std::size_t{128} << 10;

bool is_large(std::size_t bytes) { return bytes >= kLarge && !kSanitized; }

}  // namespace

std::byte* take_pages(std::size_t bytes) {
  if (!is_large(bytes)) return static_cast<std::byte*>(::operator new(bytes));
  void* const pages =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  return static_cast<std::byte*>(pages);
}

void give_pages(std::byte* block, std::size_t bytes) noexcept {
  if (!is_large(bytes)) {
    ::operator delete(block);
  } else {
    ::munmap(block, bytes);
  }
}

std::byte* grow_pages(std::byte* block, std::size_t bytes, std::size_t wanted) {
#if defined(__linux__)
  if (is_large(bytes) && is_large(wanted)) {
    void* const moved = ::mremap(block, bytes, wanted, MREMAP_MAYMOVE);
    if (moved == MAP_FAILED) throw std::bad_alloc();
    return static_cast<std::byte*>(moved);
  }
#endif
  std::byte* const moved = take_pages(wanted);
  if (bytes != 0) std::memcpy(moved, block, std::min(bytes, wanted));
  give_pages(block, bytes);
  return moved;
}

void trim_malloc() noexcept {
#if defined(__GLIBC__)
  ::malloc_trim(0);
#endif
}

}  // namespace lapidary
