#pragma once

#include <cstddef>

#include "base/memory.h"
#include "base/rows.h"

namespace lapidary {

/// Hands out pieces of an arena, or, with nullptr, only counts them: one walk over some buffers
/// serves both.
class Layout {
 public:
  explicit Layout(Arena* arena) : arena_(arena) {}

  template <class T>
  T* take(std::size_t count) {
    // NOLINTNEXTLINE(bugprone-sizeof-expression): T may be a pointer.
    const std::size_t bytes = count * sizeof(T);
    bytes_ += Arena::planned(bytes);
    return arena_ != nullptr ? reinterpret_cast<T*>(arena_->allocate(bytes)) : nullptr;
  }

  template <class T>
  T* take(int count, int width) {
    return take<T>(static_cast<std::size_t>(count) * static_cast<std::size_t>(width));
  }

  template <class T>
  Rows<T> rows(int count, int width) {
    return {take<T>(count, width), static_cast<std::size_t>(width)};
  }

  std::size_t bytes() const { return bytes_; }

 private:
  Arena* arena_;
  std::size_t bytes_ = 0;
};

}  // namespace lapidary
