#pragma once

#include <cstddef>
#include <cstdint>

/// SHA-256 as FIPS 180-4 defines it. Here because processors have instructions for it.
namespace lapidary::kernels {

/// Takes `count` blocks of 64 bytes into the eight words of `state` (6.2.2 of the standard).
using Sha256Blocks = void (*)(std::uint32_t* state, const std::byte* blocks, std::size_t count);

void sha256_blocks_scalar(std::uint32_t* state, const std::byte* blocks, std::size_t count);

/// The fastest that runs on this processor; every one computes the same.
Sha256Blocks sha256_blocks();

/// The hash of everything added, in order.
class Sha256 {
 public:
  static constexpr std::size_t kBlockBytes = 64;
  static constexpr std::size_t kHashBytes = 32;

  explicit Sha256(Sha256Blocks blocks = sha256_blocks()) : blocks_(blocks) {}

  void add(const std::byte* data, std::size_t bytes);

  /// Once, at the end: kHashBytes.
  void finish(std::uint8_t* out);

 private:
  Sha256Blocks blocks_;
  // The first 32 bits of the fractional parts of the square roots of the first eight primes.
  std::uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                             0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::uint64_t bytes_ = 0;
  std::byte rest_[kBlockBytes] = {};  // What does not fill a block yet: bytes_ % kBlockBytes.
};

}  // namespace lapidary::kernels
