#pragma once

#include <cstdint>

namespace lapidary {

/// How the next token is drawn from the logits. The order is fixed: repeat penalty over the last 64
/// ids, temperature, top-k, top-p, min-p, draw. Ties go to the lowest id. The defaults are Google's
/// for Gemma 3.
///
/// The random numbers are counter-based: the draw at position p depends on `seed` and p alone, so
/// the same seed gives the same text on any number of threads and with any prompt chunking.
struct SamplingOptions {
  float temperature = 1.0F;  ///< 0 means greedy: the best id, always.
  int top_k = 64;            ///< Keep the k best ids; 0 keeps all.
  float top_p =
      0.95F;  ///< Keep the smallest set of best ids whose probability reaches this; 1 keeps all.
  float min_p = 0.0F;  ///< Drop ids whose probability is under this share of the best one's.
  float repeat_penalty =
      1.0F;                ///< Divides (or multiplies, if negative) logits of recent ids; 1 is off.
  std::uint64_t seed = 0;  ///< Any number. The library never takes one from a clock.
};

}  // namespace lapidary
