#include "runtime/draft_controller.h"

#include <algorithm>
#include <bit>

namespace lapidary {
namespace {

constexpr double kAllowance = 0.01;     // Of each pass, for trying.
constexpr double kMostCredit = 8;       // Gains of long ago do not pay for losses without end.
constexpr double kLeastGain = 1.03;     // Less is noise.
constexpr double kRowCost = 0.3;        // Of a row beyond the first, where nothing was measured.
constexpr std::int64_t kForget = 256;   // Passes after which a cost is measured anew.
constexpr double kMemory = 0.95;        // Weight of the guesses before the last.
constexpr double kNewWeight = 0.25;     // Of a measurement.
constexpr double kFirstWeight = 0.5;    // Of the first one of a size, against what was expected.
constexpr double kMostSurprise = 1.75;  // A measurement counts at most as this multiple.

double smoothed(double before, double now, double weight = kNewWeight) {
  if (before <= 0) return now;
  return before + weight * (std::min(now, kMostSurprise * before) - before);
}

}  // namespace

void DraftController::Acceptance::record(bool hit) {
  hits = kMemory * hits + (hit ? 1 : 0);
  guesses = kMemory * guesses + 1;
}

void DraftController::Acceptance::fade() {
  hits *= 0.99;
  guesses *= 0.99;
}

// 2, 3, 4 to 7, 8 to 15, 16 and more.
std::size_t DraftController::level(int length) {
  if (length < 4) return static_cast<std::size_t>(std::max(length, 2) - 2);
  return std::min<std::size_t>(kLevels - 1, std::bit_width(static_cast<unsigned>(length)) - 1);
}

bool DraftController::known(int rows) const {
  const Cost& cost = costs_[static_cast<std::size_t>(rows)];
  return cost.measured_at > 0 && passes_ - cost.measured_at <= kForget;
}

double DraftController::cost(int rows) const {
  const double plain = costs_[1].seconds;
  if (rows == 1 || plain <= 0) return 1 + kRowCost * (rows - 1);
  int lower = rows;
  while (lower > 1 && !known(lower)) --lower;
  const double there = std::max(1.0, costs_[static_cast<std::size_t>(lower)].seconds / plain);
  if (lower == rows) return there;
  if (lower == 1) return 1 + kRowCost * (rows - 1);
  return there + (there - 1) / (lower - 1) * (rows - lower);
}

void DraftController::record_pass(int rows, double seconds) {
  ++passes_;
  // The first measurement of a size is held against what was expected of it.
  const double expected = cost(rows) * costs_[1].seconds;
  Cost& entry = costs_[static_cast<std::size_t>(rows)];
  entry.seconds =
      known(rows) ? smoothed(entry.seconds, seconds) : smoothed(expected, seconds, kFirstWeight);
  entry.measured_at = passes_;
  account_ += kAllowance;
  if (rows > 1 && expected > 0)
    account_ -= std::min(seconds, kMostSurprise * expected) / costs_[1].seconds - 1;
  account_ = std::min(kMostCredit, account_);
  model_.fade();
}

void DraftController::record_draw(double seconds) {
  draw_seconds_ = smoothed(draw_seconds_, seconds);
  const double plain = costs_[1].seconds;
  if (plain > 0) account_ += 1 - std::min(1.0, draw_seconds_ / plain);
  account_ = std::min(kMostCredit, account_);
}

void DraftController::record_drafting(int count, double seconds) {
  const double plain = costs_[1].seconds;
  if (count == 0 || plain <= 0) return;
  model_cost_ = smoothed(model_cost_, seconds / count / plain);
  account_ -= model_cost_ * count;
}

template <class ShareOf>
DraftController::Choice DraftController::choose(int most, double cost_per_id,
                                                ShareOf share_of) const {
  Choice best;
  if (costs_[1].measured_at == 0) return best;
  const double draw = std::min(1.0, draw_seconds_ / costs_[1].seconds);
  double reached = 1;   // Probability that all ids so far are drawn.
  double accepted = 0;  // Expected.
  for (int count = 1; count <= std::min(most, kMaxDraft); ++count) {
    reached *= share_of(count - 1);
    accepted += reached;
    const double spent = cost(1 + count) + cost_per_id * count;
    if (spent - 1 > account_) break;
    const double speed = (1 + accepted) / (spent + accepted * draw);
    if (speed > std::max(best.speed, kLeastGain)) best = {count, speed};
  }
  return best;
}

// With each right guess the match is one longer, and so the next more likely right.
DraftController::Choice DraftController::choose_lookup(int length, int most) const {
  return choose(most, 0, [&](int i) { return lookup_[level(length + i)].share(); });
}

DraftController::Choice DraftController::choose_model(int most) const {
  return choose(most, model_cost_, [&](int) { return model_.share(); });
}

}  // namespace lapidary
