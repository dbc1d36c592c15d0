#include "formats/weight_source.h"

#include <functional>
#include <numeric>

namespace lapidary {

std::uint64_t TensorInfo::rows() const {
  if (shape.empty()) return 1;
  return std::accumulate(shape.begin() + 1, shape.end(), std::uint64_t{1}, std::multiplies<>());
}

}  // namespace lapidary
