#include <cstring>

#include "kernels/kernels.h"

namespace lapidary::kernels {

void gather_low_blocks(const QuantizedInput& input, int tokens, int first, int count) {
  const auto blocks = static_cast<std::size_t>(input.columns / kBlock);
  for (std::size_t t = 0; t < static_cast<std::size_t>(tokens); ++t) {
    const std::size_t group = t / kLowGroup;
    for (auto b = static_cast<std::size_t>(first); b < static_cast<std::size_t>(first + count);
         ++b) {
      const std::size_t at = t * blocks + b, bucket = group * blocks + b;
      std::uint8_t& used = input.low_counts[bucket];
      if (t % kLowGroup == 0) used = 0;
      if (input.low_used[at] == 0) continue;
      LowBlock& to = input.low_blocks[bucket * kLowGroup + used++];
      std::memcpy(to.values, input.low + at * kBlock, sizeof to.values);
      std::memcpy(to.sums, input.low_sums + at * kBlockSums, sizeof to.sums);
      to.scale = input.scales[at];
      to.scaled_sum = input.low_scaled_sums[at];
      to.token = static_cast<std::int32_t>(t % kLowGroup);
    }
  }
}

}  // namespace lapidary::kernels
