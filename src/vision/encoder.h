#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "base/memory.h"
#include "base/team.h"
#include "vision/vision_weights.h"

namespace lapidary {

struct EncoderBuffers;

/// SigLIP and Gemma 3's projector over one picture at a time: docs/gemma3.md, Vision.
/// Matrices, and both products of attention, are in block floating point; everything else is fp32.
/// The same bits on any number of threads and every instruction set. One thread at a time.
class Encoder {
 public:
  /// Everything that an encoder takes.
  static std::uint64_t memory_bytes(const VisionConfig& config, int threads);

  /// `weights` and `team` must outlive it. Throws Error(kMemory).
  Encoder(const VisionWeights& weights, Team& team);
  ~Encoder();

  /// `rgb` is [image_size][image_size][3]; `out` gets [tokens][text_width]. Calls `after_layer`
  /// behind each layer, on the calling thread, and gives up (returning false) when that is false.
  /// Throws Error(kInterrupted) some milliseconds after `cancel` is set.
  bool encode(std::span<const std::uint8_t> rgb, std::span<float> out,
              FunctionRef<bool(int layer)> after_layer, const std::atomic<bool>* cancel = nullptr);

 private:
  class Pass;

  const VisionWeights& w_;
  Team& team_;
  Arena arena_;
  std::unique_ptr<EncoderBuffers> buffers_;  // Point into the arena.
};

}  // namespace lapidary
