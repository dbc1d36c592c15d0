#include "formats/weight_source.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "lapidary/error.h"

namespace lapidary {

std::uint64_t TensorInfo::rows() const {
  if (shape.empty()) return 1;
  return std::accumulate(shape.begin() + 1, shape.end(), std::uint64_t{1}, std::multiplies<>());
}

void refuse_zeros(const WeightSource& source, const TensorInfo& tensor,
                  std::span<const std::byte> bytes) {
  if (std::ranges::any_of(bytes, [](std::byte b) { return b != std::byte{0}; })) return;
  throw Error(ErrorCode::kFile, source.path() + ": tensor " + tensor.name +
                                    " ends in zeros: the download may be incomplete");
}

}  // namespace lapidary
