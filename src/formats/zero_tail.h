#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "formats/weight_source.h"

namespace lapidary {

/// Notices a tensor whose end is zeros: what a download leaves that reserves space first and is
/// interrupted. Real data costs it one byte a call.
class ZeroTail {
 public:
  /// `bytes` are those of the tensor from `offset` on. Each byte must be shown once, in any order,
  /// from any thread.
  void look(std::uint64_t offset, std::span<const std::byte> bytes);

  /// Where the last byte that is not zero ends, of all that were shown.
  std::uint64_t end() const { return end_; }

 private:
  std::atomic<std::uint64_t> end_{0};
};

/// What a tensor is for: how much of its end may be zeros.
enum class TensorKind {
  kLayerMatrix,  ///< Less than a sixteenth, so that a width may have been padded; no whole row of
                 ///< the tensor that ends the file.
  kOther,        ///< Less than a half: rows of an embedding that no token uses, values of a norm.
  kBias,         ///< All of it.
};

/// Throws Error(kFile) naming `tensor` when more of its end is zeros than its kind may have.
void check_tail(const WeightSource& source, const TensorInfo& tensor, TensorKind kind,
                const ZeroTail& tail);

}  // namespace lapidary
