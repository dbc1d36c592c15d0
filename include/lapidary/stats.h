#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace lapidary {

/// Called as long work proceeds, with the units done and their total (bytes of a load, tokens of a
/// prefill), on the calling thread, in its own floating-point environment. Must not call back into
/// the object that reports. What it throws ends the work and leaves it unchanged.
using Progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

/// What a generation cost. Seconds of wall-clock time.
struct Usage {
  int prompt_tokens = 0;       ///< Tokens of the prompt, BOS included.
  int cached_tokens = 0;       ///< Of those, tokens whose keys and values were already there.
  int completion_tokens = 0;   ///< Tokens drawn, the stop id included.
  int drafted_tokens = 0;      ///< Tokens that were guessed and verified. Differs from run to run.
  int accepted_tokens = 0;     ///< Of those, tokens that were drawn.
  double prefill_seconds = 0;  ///< Of the prompt; encoding its pictures is not counted.
  double decode_seconds = 0;   ///< Of the tokens drawn.
};

/// What a prefix cache on disk did for a session or an engine (SessionOptions::prefix_cache). What
/// fails there costs time, never an answer.
struct PrefixCacheStats {
  std::uint64_t read_tokens = 0;    ///< Tokens whose keys and values were taken from it.
  std::uint64_t written_bytes = 0;  ///< Of files that were written.
  std::uint64_t damaged_files = 0;  ///< That were not what they should be, and were removed.
  std::uint64_t failures = 0;       ///< Times that the folder could not be used, or written to.
  std::string problem = {};  ///< What the last of these was, in one line; empty: there was none.
};

/// How the draws of a session read a screened output matrix (ModelOptions::screened_head); all 0
/// where it is not screened.
struct HeadStats {
  std::uint64_t searches = 0;  ///< Draws that asked for the best rows alone.
  std::uint64_t gave_up = 0;   ///< Of these, draws that read everything, after a search or without.
  std::uint64_t rows = 0;      ///< Rows whose upper four bits were read, all searches together.
  std::uint64_t five_bit_rows = 0;  ///< Of these, rows whose fifth bit was read.
  std::uint64_t low_rows = 0;    ///< Of these, rows whose lower bits were read to tell them apart.
  std::uint64_t exact_rows = 0;  ///< Rows multiplied as the full head multiplies them.
};

}  // namespace lapidary
