#include "runtime/log_probabilities.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>

#include "base/cancel.h"
#include "base/format.h"
#include "lapidary/error.h"

namespace lapidary {

void check_logprobs(int count, const char* name) {
  if (count >= 0 && count <= kMostLogprobs) return;
  throw Error(ErrorCode::kUsage, format("{} must be 0 to {}, not {}", name, kMostLogprobs, count));
}

namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();
constexpr std::size_t kLanes = 64;  // Independent of each other, for the compiler to take together.

/// The largest number; -inf where there is none. NaN compares with nothing.
float largest_of(std::span<const float> logits) {
  std::array<float, kLanes> most;
  most.fill(kNone);
  std::size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    const float* block = logits.data() + i;
    for (std::size_t lane = 0; lane < kLanes; ++lane)
      most[lane] = block[lane] > most[lane] ? block[lane] : most[lane];
  }
  for (; i < logits.size(); ++i) most[0] = logits[i] > most[0] ? logits[i] : most[0];
  return *std::ranges::max_element(most);
}

constexpr double kLeast = -700;  // Its exponential is nothing beside 1, and no denormal.

/// exp(x) for x from kLeast to 0, within 3 units of the last place. 2^n · exp(r) with
/// |r| ≤ ln 2 / 2, exp(r) by its Taylor series. Without branches or tables, so that lanes go
/// together, and with the same bits on every machine.
double exp_of(double x) {
  constexpr double kLog2E = 1.4426950408889634, kLn2High = 0x1.62e42fefa0000p-1,
                   kLn2Low = 0x1.cf79abc9e3b3ap-40;
  constexpr double kRound = 0x1.8p52;  // Adding it rounds to a whole number, in the lower bits.
  const double shifted = x * kLog2E + kRound;
  const double n = shifted - kRound;
  const double r = (x - n * kLn2High) - n * kLn2Low;
  double sum = 1.0 / 479001600 * r + 1.0 / 39916800;  // 1 / 12!, 1 / 11!
  sum = ((sum * r + 1.0 / 3628800) * r + 1.0 / 362880) * r + 1.0 / 40320;
  sum = ((sum * r + 1.0 / 5040) * r + 1.0 / 720) * r + 1.0 / 120;
  sum = ((sum * r + 1.0 / 24) * r + 1.0 / 6) * r + 0.5;
  sum = (sum * r + 1.0) * r + 1.0;
  const auto exponent = (std::bit_cast<std::uint64_t>(shifted) + 1023) << 52U;
  return sum * std::bit_cast<double>(exponent);
}

/// Adds exp(logits[i] - largest) to sums[i]; of NaN, and of what is far below, next to nothing.
void add_exponentials(std::span<const float> logits, double largest,
                      std::array<double, kLanes>& sums) {
  std::array<double, kLanes> above;
  for (std::size_t lane = 0; lane < logits.size(); ++lane)
    above[lane] = static_cast<double>(logits[lane]) - largest;
  for (std::size_t lane = 0; lane < logits.size(); ++lane)
    above[lane] = above[lane] > kLeast ? above[lane] : kLeast;
  for (std::size_t lane = 0; lane < logits.size(); ++lane) sums[lane] += exp_of(above[lane]);
}

/// The sum of exp(logit - largest), in lanes by the place of the logit. The largest is finite.
double sum_of_exponentials(std::span<const float> logits, float largest) {
  std::array<double, kLanes> sums = {};
  for (std::size_t i = 0; i < logits.size(); i += kLanes) {
    add_exponentials(logits.subspan(i, std::min(kLanes, logits.size() - i)),
                     static_cast<double>(largest), sums);
  }
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace

TokenId most_probable(std::span<const float> logits) {
  const auto found = std::ranges::find(logits, largest_of(logits));
  return found == logits.end() ? 0 : static_cast<TokenId>(found - logits.begin());
}

LogSoftmax::LogSoftmax(std::span<const float> logits)
    : logits_(logits), largest_(largest_of(logits)) {
  if (largest_ == kNone)
    throw Error(ErrorCode::kFailed, "no log-probability: every logit is NaN or -inf");
  log_sum_ =
      std::log(std::isfinite(largest_) ? sum_of_exponentials(logits, largest_)
                                       : static_cast<double>(std::ranges::count(logits, largest_)));
}

double LogSoftmax::above(float logit) const {
  if (logit == largest_) return 0;  // Both may be infinite.
  if (std::isnan(logit)) return -std::numeric_limits<double>::infinity();
  return static_cast<double>(logit) - static_cast<double>(largest_);
}

double LogSoftmax::operator[](TokenId id) const {
  return above(logits_[static_cast<std::size_t>(id)]) - log_sum_;
}

std::vector<RankedToken> LogSoftmax::best(int count) const {
  const auto better = [](const RankedToken& a, const RankedToken& b) {
    return a.logprob > b.logprob || (a.logprob == b.logprob && a.id < b.id);
  };
  const std::size_t most = std::min(static_cast<std::size_t>(count), logits_.size());
  std::vector<RankedToken> best;  // Sorted; their logprob is a logit relative to the largest.
  if (most == 0) return best;
  best.reserve(most + 1);
  for (std::size_t i = 0; i < logits_.size(); ++i) {
    const RankedToken next{static_cast<TokenId>(i), above(logits_[i])};
    if (best.size() == most && !better(next, best.back())) continue;
    best.insert(std::ranges::upper_bound(best, next, better), next);
    if (best.size() > most) best.pop_back();
  }
  for (RankedToken& token : best) token.logprob -= log_sum_;
  return best;
}

TokenLogprob LogSoftmax::of(TokenId id, int count) const { return {id, (*this)[id], best(count)}; }

void use_logits(EngineCore& engine, std::span<const float* const> rows,
                const std::function<void(std::size_t, std::span<const float>)>& use,
                const std::atomic<bool>* cancel) {
  RowLogits& logits = engine.logits;
  const auto most = static_cast<std::size_t>(logits.most_rows());
  std::vector<HiddenRow> wanted;
  for (std::size_t begin = 0; begin < rows.size(); begin += most) {
    check_cancel(cancel, "scoring");
    const std::size_t count = std::min(most, rows.size() - begin);
    const std::uint64_t number = number_rows(static_cast<int>(count));
    wanted.clear();
    for (std::size_t i = 0; i < count; ++i) wanted.push_back({rows[begin + i], number + i});
    logits.compute(wanted);
    engine.team.run([&](Worker& worker) {
      worker.for_each(static_cast<int>(count), [&](int task) {
        const auto i = static_cast<std::size_t>(task);
        use(begin + i, logits.all(number + i));
      });
    });
  }
}

}  // namespace lapidary
