#pragma once

#include <cstdint>
#include <functional>

namespace lapidary {

/// Called as long work proceeds, with the units done and their total (bytes of a load, tokens of a
/// prefill), on the calling thread. Must not call back into the object that reports.
using Progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

/// What a generation cost. Seconds of wall-clock time.
struct Usage {
  int prompt_tokens = 0;      ///< Tokens of the prompt, BOS included.
  int cached_tokens = 0;      ///< Of those, tokens whose keys and values were already there.
  int completion_tokens = 0;  ///< Tokens drawn, the stop id included.
  int drafted_tokens = 0;     ///< Tokens that were guessed and verified. Differs from run to run.
  int accepted_tokens = 0;    ///< Of those, tokens that were drawn.
  double prefill_seconds = 0;
  double decode_seconds = 0;
};

}  // namespace lapidary
