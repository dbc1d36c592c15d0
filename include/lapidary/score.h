#pragma once

// How probable tokens are to a model.

#include <cstdint>
#include <span>
#include <vector>

#include "lapidary/export.h"
#include "lapidary/tokenizer.h"

namespace lapidary {

/// Most continuations that are scored together (Session::score, Request::choices).
inline constexpr int kMostContinuations = 4096;

/// Most of the most probable ids that are told beside a token (GenerateOptions::logprobs).
inline constexpr int kMostLogprobs = 20;

/// An id and the natural logarithm of its probability.
struct RankedToken {
  TokenId id = 0;      ///< Of the vocabulary.
  double logprob = 0;  ///< 0 or less; -infinity for one that cannot be.
};

/// How probable a token is behind those before it: to the model, as its logits say, before
/// temperature, filters and penalty. The probabilities are those of all ModelInfo::vocabulary ids
/// together, of which some are never drawn.
struct TokenLogprob {
  TokenId id = 0;                      ///< The token.
  double logprob = 0;                  ///< Natural logarithm of its probability.
  std::vector<RankedToken> best = {};  ///< The most probable ids in its place, as many as were
                                       ///< asked for, best first; of two alike the lower first.
};

/// How probable a continuation is behind a sequence.
struct Score {
  double sum =
      0;  ///< Natural logarithm of the probability of all its tokens, one behind the other.
  std::vector<double> tokens = {};  ///< Of each token behind those before it; `sum` is their sum.
  std::uint64_t bytes = 0;  ///< Of the text that they stand for; control tokens stand for none.
  bool greedy = false;      ///< Whether drawing with temperature 0 gives exactly these tokens.

  /// The mean of a token, by which texts of different lengths compare.
  double per_token() const { return sum / static_cast<double>(tokens.size()); }
  /// The same of a byte of text, which depends on no tokenizer; of control tokens alone, `sum`.
  double per_byte() const { return bytes == 0 ? sum : sum / static_cast<double>(bytes); }
};

/// What `logits`, ModelInfo::vocabulary of them as Session::append_with_logits hands them out, say
/// of `id` in the next place, with the `best` most probable ids. Computed in double precision, with
/// the same bits as everywhere else in the library. A logit that is no number counts as an id that
/// cannot be. Throws Error(kUsage) for an id outside the logits and for `best` out of 0 to
/// kMostLogprobs, Error(kFailed) when no logit is a number. May be called from any thread.
LAPIDARY_API TokenLogprob log_probability(std::span<const float> logits, TokenId id, int best = 0);

}  // namespace lapidary
