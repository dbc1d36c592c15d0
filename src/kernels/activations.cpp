#include "kernels/activations.h"

#include <cstring>

namespace lapidary::kernels {

void gather_low_blocks(const QuantizedInput& input, int tokens, int first, int count) {
  const std::size_t blocks = input.blocks(1);
  for (std::size_t t = 0; t < static_cast<std::size_t>(tokens); ++t) {
    for (auto b = static_cast<std::size_t>(first); b < static_cast<std::size_t>(first + count);
         ++b) {
      const std::size_t at = t * blocks + b, bucket = t / kLowTokens * blocks + b;
      std::uint8_t& used = input.gathered.counts[bucket];
      if (t % kLowTokens == 0) used = 0;
      if (input.low_used[at] == 0) continue;
      const ActivationPlane from = input.low.from(at);
      LowBlock& to = input.gathered.blocks[bucket * kLowTokens + used++];
      std::memcpy(to.values, from.values, sizeof to.values);
      std::memcpy(to.sums, from.sums, sizeof to.sums);
      to.scale = input.scales[at];
      to.scaled_sum = *from.scaled_sums;
      to.token = static_cast<std::int32_t>(t % kLowTokens);
    }
  }
}

}  // namespace lapidary::kernels
