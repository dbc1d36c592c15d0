#include "base/paged.h"

#include <sys/mman.h>

#include <cstdlib>  // Defines __GLIBC__ where that is the library.
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

void trim_malloc() noexcept {
#if defined(__GLIBC__)
  ::malloc_trim(0);
#endif
}

}  // namespace lapidary
