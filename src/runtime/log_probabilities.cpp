#include "runtime/log_probabilities.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/cancel.h"
#include "base/format.h"
#include "lapidary/error.h"

namespace lapidary {

void check_logprobs(int count, const char* name) {
  if (count >= 0 && count <= kMostLogprobs) return;
  throw Error(ErrorCode::kUsage, format("{} must be 0 to {}, not {}", name, kMostLogprobs, count));
}

TokenId most_probable(std::span<const float> logits) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < logits.size(); ++i) {
    if (logits[i] > logits[best] || std::isnan(logits[best])) best = i;
  }
  return static_cast<TokenId>(best);
}

LogSoftmax::LogSoftmax(std::span<const float> logits)
    : logits_(logits), largest_(logits[static_cast<std::size_t>(most_probable(logits))]) {
  if (!(largest_ > -std::numeric_limits<float>::infinity()))
    throw Error(ErrorCode::kFailed, "no logit is a number: the model is damaged");
  double sum = 0;
  for (const float logit : logits_) sum += std::exp(above(logit));
  log_sum_ = std::log(sum);
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
