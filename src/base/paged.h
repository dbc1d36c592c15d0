#pragma once

#include <cstddef>
#include <new>
#include <string>
#include <vector>

namespace lapidary {

/// Pages of the system for a large block, which go back to it at once. malloc would keep what its
/// arenas got, and raises, with each large block that it is given back, the size up to which it
/// keeps the next ones (glibc). Small blocks come from operator new, and under AddressSanitizer,
/// which sees reads beyond them, all do.
std::byte* take_pages(std::size_t bytes);  // Throws std::bad_alloc.
void give_pages(std::byte* block, std::size_t bytes) noexcept;

/// `block`, or what it was moved to, with `wanted` bytes instead of `bytes`. Pages of the system
/// are moved without a copy where it can do that (Linux). When it throws std::bad_alloc, `block`
/// stays.
std::byte* grow_pages(std::byte* block, std::size_t bytes, std::size_t wanted);

/// For containers that may become large and live shortly or as long as a model.
template <class T>
struct PagedAllocator {
  using value_type = T;
  PagedAllocator() = default;
  template <class U>
  PagedAllocator(const PagedAllocator<U>&) noexcept {}  // NOLINT(google-explicit-constructor)

  T* allocate(std::size_t count) {
    if (count > static_cast<std::size_t>(-1) / 2 / sizeof(T)) throw std::bad_alloc();
    return reinterpret_cast<T*>(take_pages(count * sizeof(T)));
  }
  void deallocate(T* block, std::size_t count) noexcept {
    give_pages(reinterpret_cast<std::byte*>(block), count * sizeof(T));
  }
  template <class U>
  bool operator==(const PagedAllocator<U>&) const noexcept {
    return true;
  }
};

template <class T>
using PagedVector = std::vector<T, PagedAllocator<T>>;
using PagedString = std::basic_string<char, std::char_traits<char>, PagedAllocator<char>>;

/// Gives back to the system what malloc keeps of memory that was freed, where it can be told to
/// (glibc): docs/decisions/0020-memory-goes-back.md.
void trim_malloc() noexcept;

}  // namespace lapidary
