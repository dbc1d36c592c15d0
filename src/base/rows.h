#pragma once

#include <cstddef>

namespace lapidary {

/// The rows of an array that someone else owns: where the first begins, and how many elements lie
/// between the beginnings of two.
template <class T>
struct Rows {
  T* data = nullptr;
  std::size_t stride = 0;

  T* operator[](int row) const { return data + static_cast<std::size_t>(row) * stride; }
};

}  // namespace lapidary
