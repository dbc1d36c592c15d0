#include "runtime/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <sstream>

#include "base/format.h"
#include "lapidary/error.h"

namespace lapidary {
namespace {

// Ids that min-p alone may leave before all logits are looked at.
constexpr int kMinPCount = 256;

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

template <class T>
[[noreturn]] void fail(const char* field, T value, const char* expected) {
  std::ostringstream message;
  message << field << " is " << value << ", expected " << expected;
  throw Error(ErrorCode::kUsage, message.str());
}

[[noreturn]] void fail_nothing_to_draw() {
  throw Error(ErrorCode::kFailed, "no token can be drawn: every logit is NaN or -inf");
}

/// Logits are scanned in blocks: their maximum is a few vector instructions, and most blocks hold
/// nothing of interest.
constexpr std::size_t kBlock = 64;

/// The largest value, NaN passed over; -inf when there is none. Sixteen independent maxima, so that
/// it vectorises without any licence to reorder floating point.
float maximum(const float* values, std::size_t count) {
  constexpr std::size_t kLanes = 16;
  std::array<float, kLanes> best;
  best.fill(kMinusInfinity);
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const float value = values[i + lane];
      best[lane] = value > best[lane] ? value : best[lane];
    }
  }
  float result = kMinusInfinity;
  for (; i < count; ++i) result = values[i] > result ? values[i] : result;
  for (const float value : best) result = value > result ? value : result;
  return result;
}

/// The lowest index of the largest value; throws when there is none above -inf.
std::size_t argmax(std::span<const float> logits) {
  float best = kMinusInfinity;
  std::size_t block = 0;
  for (std::size_t at = 0; at < logits.size(); at += kBlock) {
    const float value = maximum(logits.data() + at, std::min(kBlock, logits.size() - at));
    if (value > best) {
      best = value;
      block = at;
    }
  }
  if (best == kMinusInfinity) fail_nothing_to_draw();
  while (logits[block] != best) ++block;
  return block;
}

float penalized(float logit, float penalty) {
  return logit > 0 ? logit / penalty : logit * penalty;
}

/// The probability of `logit` relative to that of `best`, the largest one.
class RelativeWeight {
 public:
  RelativeWeight(float best, float temperature) : best_(best), temperature_(temperature) {}

  double operator()(float logit) const {
    if (logit == best_) return 1.0;  // Also when both are +inf.
    if (!(logit > kMinusInfinity)) return 0.0;
    // e^-100 of 2^18 ids is less than the rounding of a sum that holds a 1.
    const double exponent =
        (static_cast<double>(logit) - static_cast<double>(best_)) / temperature_;
    return exponent < -100.0 ? 0.0 : std::exp(exponent);
  }

 private:
  float best_;
  double temperature_;
};

/// `weight`, or 0 where min-p drops it and top-p, which comes first, does not count it either.
double counted(double weight, const SamplingOptions& options) {
  return options.top_p < 1 || weight >= static_cast<double>(options.min_p) ? weight : 0.0;
}

}  // namespace

void validate(const SamplingOptions& options) {
  if (!std::isfinite(options.temperature) || options.temperature < 0) {
    fail("temperature", options.temperature, "a finite number, 0 or more");
  }
  if (options.top_k < 0) fail("top_k", options.top_k, "0 (all) or more");
  if (!(options.top_p >= 0 && options.top_p <= 1)) fail("top_p", options.top_p, "0 to 1");
  if (!(options.min_p >= 0 && options.min_p <= 1)) fail("min_p", options.min_p, "0 to 1");
  if (!std::isfinite(options.repeat_penalty) || options.repeat_penalty <= 0) {
    fail("repeat_penalty", options.repeat_penalty, "a finite number above 0");
  }
}

double counter_random(std::uint64_t seed, std::uint64_t position) {
  // Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): counter =
  // position, key = seed.
  std::array<std::uint32_t, 4> counter = {static_cast<std::uint32_t>(position),
                                          static_cast<std::uint32_t>(position >> 32), 0, 0};
  auto key_low = static_cast<std::uint32_t>(seed);
  auto key_high = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key_low,
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key_high,
               static_cast<std::uint32_t>(product0)};
    key_low += 0x9E3779B9U;
    key_high += 0xBB67AE85U;
  }
  const std::uint64_t bits = std::uint64_t{counter[0]} << 32 | counter[1];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

Sampler::Sampler(TokenId vocabulary_size)
    : vocabulary_(static_cast<std::size_t>(std::max(vocabulary_size, 0))) {
  penalized_.reserve(vocabulary_);
  recent_.reserve(kPenaltyWindow);
  candidates_.reserve(vocabulary_);
}

TokenId Sampler::sample(std::span<const float> logits, std::span<const TokenId> recent,
                        const SamplingOptions& options, std::uint64_t position) {
  if (logits.empty() || logits.size() > vocabulary_) {
    fail("the number of logits", logits.size(), format("1 to {}", vocabulary_).c_str());
  }
  logits = penalize(logits, recent, options.repeat_penalty);
  if (options.temperature == 0 || options.top_k == 1) return static_cast<TokenId>(argmax(logits));

  const double random = counter_random(options.seed, position);
  const auto wanted = static_cast<std::size_t>(options.top_k);
  if (wanted > 0 && wanted < logits.size()) {
    collect_best(logits, wanted);
    return *draw(mass_of_candidates(options, candidates_.front().logit), random, true, options);
  }
  // All ids count, but the draw nearly always falls on one of the best few: sort no more of them
  // than it takes.
  const double mass = mass_of_all(logits, options);
  for (std::size_t count = 256;; count *= 16) {
    const bool all = count >= logits.size();
    collect_best(logits, std::min(count, logits.size()));
    if (const auto id = draw(mass, random, all, options)) return *id;
  }
}

std::optional<HeadQuery> Sampler::query(std::size_t count, std::span<const TokenId> recent,
                                        const SamplingOptions& options) {
  HeadQuery query{static_cast<int>(count), 1, std::numeric_limits<float>::infinity(), {}};
  if (options.temperature > 0 && options.top_k != 1) {
    // More than a search may be asked for are as good as all; no sum with them overflows.
    query.count = std::min(options.top_k, HeadQuery::kMostCount + 1);
    if (options.top_k == 0) {
      // Without top-k and top-p, min-p alone says what counts.
      if (options.top_p < 1 || options.min_p <= 0) return std::nullopt;
      query.count = kMinPCount;
      query.range = options.temperature * -std::log(options.min_p) * 1.001F + 0.001F;
    }
  }
  recent_.clear();
  if (options.repeat_penalty != 1.0F) {
    for (const TokenId id : recent.last(std::min(recent.size(), kPenaltyWindow))) {
      const bool seen = std::find(recent_.begin(), recent_.end(), id) != recent_.end();
      if (id >= 0 && static_cast<std::size_t>(id) < count && !seen) recent_.push_back(id);
    }
    // Penalised ids may leave the best; as many others then take their places.
    query.count += static_cast<int>(recent_.size());
    query.also = recent_;
    if (options.top_k == 0) return recent_.empty() ? std::optional(query) : std::nullopt;
  }
  if (query.count > HeadQuery::kMostCount || static_cast<std::size_t>(query.count) >= count)
    return std::nullopt;
  return query;
}

std::optional<TokenId> Sampler::sample_best(std::span<const ScoredRow> best, const HeadQuery& query,
                                            const SamplingOptions& options,
                                            std::uint64_t position) {
  candidates_.assign(best.begin(), best.end());
  std::erase_if(candidates_, [](const ScoredRow& row) { return !(row.logit > kMinusInfinity); });
  if (candidates_.empty()) fail_nothing_to_draw();
  for (ScoredRow& row : candidates_) {
    if (std::find(query.also.begin(), query.also.end(), row.row) != query.also.end())
      row.logit = penalized(row.logit, options.repeat_penalty);
  }
  const bool greedy = options.temperature == 0 || options.top_k == 1;
  if (greedy) return std::min_element(candidates_.begin(), candidates_.end(), better)->row;
  const double random = counter_random(options.seed, position);
  if (options.top_k == 0) {
    if (candidates_.size() >= static_cast<std::size_t>(query.count)) return std::nullopt;
    // Summed in the order of mass_of_all; what is missing adds 0 there.
    std::sort(candidates_.begin(), candidates_.end(),
              [](const ScoredRow& a, const ScoredRow& b) { return a.row < b.row; });
    const auto first = std::min_element(candidates_.begin(), candidates_.end(), better);
    const double mass = mass_of_candidates(options, first->logit);
    std::sort(candidates_.begin(), candidates_.end(), better);
    return draw(mass, random, true, options);
  }
  std::sort(candidates_.begin(), candidates_.end(), better);
  candidates_.resize(std::min(candidates_.size(), static_cast<std::size_t>(options.top_k)));
  return draw(mass_of_candidates(options, candidates_.front().logit), random, true, options);
}

std::span<const float> Sampler::penalize(std::span<const float> logits,
                                         std::span<const TokenId> recent, float penalty) {
  if (penalty == 1.0F || recent.empty()) return logits;
  penalized_.assign(logits.begin(), logits.end());
  if (recent.size() > kPenaltyWindow) recent = recent.last(kPenaltyWindow);
  for (std::size_t i = 0; i < recent.size(); ++i) {
    const TokenId id = recent[i];
    const auto seen = recent.first(i);
    if (id < 0 || static_cast<std::size_t>(id) >= logits.size()) continue;
    if (std::find(seen.begin(), seen.end(), id) != seen.end()) continue;
    float& logit = penalized_[static_cast<std::size_t>(id)];
    logit = penalized(logit, penalty);
  }
  return penalized_;
}

void Sampler::collect_best(std::span<const float> logits, std::size_t count) {
  // Whenever twice as many are gathered as are wanted, the worse half goes, and only what beats the
  // worst of the rest is gathered from there on. Ids come in order: an equal logit that comes later
  // has the higher id and loses.
  const std::size_t room = std::min(vocabulary_, std::max<std::size_t>(2 * count, 256));
  float threshold = kMinusInfinity;
  candidates_.clear();
  for (std::size_t at = 0; at < logits.size(); at += kBlock) {
    const std::size_t end = std::min(at + kBlock, logits.size());
    if (!(maximum(logits.data() + at, end - at) > threshold)) continue;
    for (std::size_t i = at; i < end; ++i) {
      if (!(logits[i] > threshold)) continue;
      if (candidates_.size() == room && room > count) {
        const auto last = candidates_.begin() + static_cast<std::ptrdiff_t>(count - 1);
        std::nth_element(candidates_.begin(), last, candidates_.end(), better);
        threshold = last->logit;
        candidates_.resize(count);
        if (!(logits[i] > threshold)) continue;
      }
      candidates_.push_back({logits[i], static_cast<TokenId>(i)});
    }
  }
  const std::size_t kept = std::min(count, candidates_.size());
  const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(kept);
  if (kept < candidates_.size())
    std::nth_element(candidates_.begin(), end, candidates_.end(), better);
  candidates_.resize(kept);
  if (candidates_.empty()) fail_nothing_to_draw();
  std::sort(candidates_.begin(), candidates_.end(), better);
}

double Sampler::mass_of_candidates(const SamplingOptions& options, float best) const {
  const RelativeWeight weight(best, options.temperature);
  double mass = 0;
  for (const ScoredRow& candidate : candidates_) mass += counted(weight(candidate.logit), options);
  return mass;
}

double Sampler::mass_of_all(std::span<const float> logits, const SamplingOptions& options) {
  const RelativeWeight weight(logits[argmax(logits)], options.temperature);
  double mass = 0;
  for (const float logit : logits) mass += counted(weight(logit), options);
  return mass;
}

std::optional<TokenId> Sampler::draw(double mass, double random, bool all,
                                     const SamplingOptions& options) const {
  const RelativeWeight weight(candidates_.front().logit, options.temperature);
  const auto dropped = [&](double w) { return w < static_cast<double>(options.min_p); };
  std::size_t kept = candidates_.size();
  if (options.top_p < 1) {
    // Where top-p and min-p end the list, and the mass of what they leave.
    const double limit = static_cast<double>(options.top_p) * mass;
    mass = 0;
    for (kept = 0; kept < candidates_.size();) {
      const double w = weight(candidates_[kept].logit);
      if (dropped(w)) break;
      mass += w;
      ++kept;
      if (mass >= limit) break;
    }
    if (!all && kept == candidates_.size() && mass < limit) return std::nullopt;
  }
  const double target = random * mass;
  double sum = 0;
  TokenId last = candidates_.front().row;
  for (std::size_t i = 0; i < kept; ++i) {
    const double w = weight(candidates_[i].logit);
    if (dropped(w) || w == 0) return last;
    sum += w;
    last = candidates_[i].row;
    if (sum > target) return last;
  }
  // The sums of a mass taken in another order may differ in the last bit: the last id is the answer
  // if there is none left.
  if (!all && options.top_p >= 1) return std::nullopt;
  return last;
}

}  // namespace lapidary
