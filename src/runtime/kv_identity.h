#pragma once

#include <cstdint>
#include <string>

#include "formats/weight_source.h"
#include "lapidary/tokenizer.h"
#include "model/config.h"
#include "model/kv_pool.h"
#include "runtime/checked_file.h"

namespace lapidary {

/// Raised when a bit of keys and values changes that the same ids get of the same model, so that
/// older files are computed again. They are the same on all instruction sets, so files go from one
/// machine to another; kv_identity_test fails where they have changed.
inline constexpr std::uint32_t kKvBits = 1;

/// What tells the weights of `source` from others without reading all of them: names, types and
/// shapes of all tensors, the bytes of small ones, and of large ones some of every 256 KiB, the
/// first and the last. Another model, fine-tune or quantisation has another, and so has one of
/// which a whole tensor, or a stretch of one of 256 KiB, was changed; a few changed values
/// elsewhere are missed. Reads about a thousandth of the file. Throws Error(kFile),
/// Error(kInterrupted) once `cancel` is set.
Digest fingerprint(const WeightSource& source, const std::atomic<bool>* cancel = nullptr);

/// The same with what the engine computes with beside weights.
Digest fingerprint(const WeightSource& source, const Config& config,
                   const std::atomic<bool>* cancel = nullptr);

/// The hash of all pieces: what ids mean.
Digest vocabulary_digest(const Tokenizer& tokenizer);

/// What keys and values depend on beside ids and pictures, and how they lie in pages. Those of two
/// sequences that are the same in all of it are interchangeable.
struct KvIdentity {
  Digest model{};  // Its fingerprint.
  std::uint32_t bits = kKvBits;
  std::uint32_t format = 0;  // A kernels::KvFormat.
  std::uint32_t page_positions = kernels::kPagePositions;
  std::uint64_t page_bytes = 0;

  KvIdentity() = default;
  KvIdentity(const Digest& fingerprint, const KvPool& pool);

  bool operator==(const KvIdentity&) const = default;

  void write(FieldWriter& out) const;
  /// Throws Error(kFile) as FieldReader does.
  static KvIdentity read(FieldReader& in);

  /// How `found` differs, for a message: "another model"; empty: it does not.
  std::string difference(const KvIdentity& found) const;
};

}  // namespace lapidary
