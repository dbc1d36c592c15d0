#include "formats/zero_tail.h"

#include <algorithm>
#include <string>

#include "base/format.h"
#include "lapidary/error.h"

namespace lapidary {
void ZeroTail::look(std::uint64_t offset, std::span<const std::byte> bytes) {
  std::size_t used = bytes.size();
  while (used > 0 && bytes[used - 1] == std::byte{0}) --used;
  if (used == 0) return;
  const std::uint64_t end = offset + used;
  std::uint64_t before = end_;
  while (before < end && !end_.compare_exchange_weak(before, end)) {
  }
}

void check_tail(const WeightSource& source, const TensorInfo& tensor, TensorKind kind,
                const ZeroTail& tail) {
  if (kind == TensorKind::kBias) return;
  const std::uint64_t zeros = tensor.bytes - tail.end();
  const std::uint64_t row = tensor.bytes / tensor.rows();
  std::uint64_t refused = (tensor.bytes + 1) / 2;
  if (kind == TensorKind::kLayerMatrix) {
    refused = std::max(row, tensor.bytes / 16);
    if (zeros >= row && tensor.ends_file) refused = row;
  }
  if (zeros < refused) return;
  const std::string what = zeros == tensor.bytes
                               ? "is all zeros"
                               : format("is zeros from byte {} of {} on", tail.end(), tensor.bytes);
  throw Error(ErrorCode::kFile,
              source.where(tensor) + " " + what + ": the download may be incomplete");
}

}  // namespace lapidary
