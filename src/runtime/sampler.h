#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lapidary/sampling.h"
#include "lapidary/tokenizer.h"
#include "model/decoder.h"

namespace lapidary {

/// Throws Error(kUsage) naming the field, its value and what is allowed.
void validate(const SamplingOptions& options);

/// Ids that the repeat penalty looks back at.
inline constexpr std::size_t kPenaltyWindow = 64;

/// Draws tokens from logits: penalty over the last 64 ids, temperature, top-k, top-p, min-p, draw;
/// ties go to the lowest id (lapidary/sampling.h). The draw depends on the logits, the options and
/// `position` alone.
///
/// Holds scratch space for one vocabulary: sample() neither allocates nor locks. Not thread-safe.
class Sampler {
 public:
  explicit Sampler(TokenId vocabulary_size);

  /// The id drawn. `logits` holds 1 to vocabulary_size values; `recent` the ids so far, of which
  /// the last 64 count; ids of it outside the vocabulary are passed over. A NaN or -inf logit is
  /// never drawn; +inf wins over every finite one. The options must be valid. Throws Error(kFailed)
  /// when no logit can be drawn, Error(kUsage) for a wrong number of logits.
  TokenId sample(std::span<const float> logits, std::span<const TokenId> recent,
                 const SamplingOptions& options, std::uint64_t position);

  /// Which of `count` logits decide what sample() would draw; nothing when all of them do. `also`
  /// of the result is valid until the next call.
  std::optional<HeadQuery> query(std::size_t count, std::span<const TokenId> recent,
                                 const SamplingOptions& options);

  /// What sample() would draw, from the answer to that query; nothing when it does not suffice.
  std::optional<TokenId> sample_best(std::span<const ScoredRow> best, const HeadQuery& query,
                                     const SamplingOptions& options, std::uint64_t position);

 private:
  std::span<const float> penalize(std::span<const float> logits, std::span<const TokenId> recent,
                                  float penalty);

  /// The `count` best of `logits` into candidates_, best first; fewer when fewer can be drawn.
  /// Throws when none can.
  void collect_best(std::span<const float> logits, std::size_t count);

  /// The sum of all weights relative to the best one's; of those that min-p leaves when top-p is
  /// off.
  double mass_of_candidates(const SamplingOptions& options, float best) const;
  static double mass_of_all(std::span<const float> logits, const SamplingOptions& options);

  /// Draws from candidates_, of a distribution with `mass`; nothing when it takes more candidates
  /// than there are and they are not `all`.
  std::optional<TokenId> draw(double mass, double random, bool all,
                              const SamplingOptions& options) const;

  std::size_t vocabulary_;
  std::vector<float> penalized_;
  std::vector<ScoredRow> candidates_;
  std::vector<TokenId> recent_;  // Of a query: every id once.
};

/// A number in [0, 1), every multiple of 2^-53 equally likely, that depends on `seed` and
/// `position` alone.
double counter_random(std::uint64_t seed, std::uint64_t position);

}  // namespace lapidary
