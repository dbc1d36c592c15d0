#include "runtime/speculator.h"

#include <algorithm>
#include <chrono>

#include "runtime/model_impl.h"

namespace lapidary {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// A draft model's pass in passes of the target, both bound by the weights that they read.
double expected_cost(const Model& target, const SessionOptions& options) {
  if (!options.draft) return 0;
  return static_cast<double>(options.draft->info().bytes_per_token) /
         static_cast<double>(std::max<std::uint64_t>(1, target.info().bytes_per_token));
}

}  // namespace

std::uint64_t Speculator::draft_bytes(const SessionPlan& plan, const SessionOptions& options,
                                      int threads) {
  if (!options.draft) return 0;
  return make_plan(*options.draft, DraftModel::session_options(plan, threads), threads).bytes() +
         static_cast<std::uint64_t>(plan.context) * sizeof(TokenId);
}

Speculator::Speculator(const Model& target, const SessionPlan& plan, const SessionOptions& options)
    : tokenizer_(target.tokenizer()),
      longest_forward_(plan.longest_chunk),
      index_(plan.context),
      controller_(expected_cost(target, options)) {
  if (!options.draft) return;
  check_same_vocabulary(*options.draft, target);
  model_ = std::make_unique<DraftModel>(*options.draft,
                                        DraftModel::session_options(plan, options.threads),
                                        target.tokenizer().image_token());
}

void Speculator::follow(std::span<const TokenId> ids) {
  if (model_ != nullptr) model_->follow(ids);
}

// Puts what followed the longest match into draft_, up to what cannot be drawn.
std::size_t Speculator::look_up(std::span<const TokenId> ids, std::size_t most,
                                std::size_t drawable) {
  index_.extend(ids);
  match_ = index_.longest(ids);
  guesses_ = match_.length > 0 ? kMaxDraft : 0;  // What is not drafted teaches as well.
  if (guesses_ == 0) return 0;
  copy_continuation(ids, match_.next, draft_);
  const std::span<const TokenId> stops = tokenizer_.stop_ids();
  const auto useless = [&](TokenId id) {
    return static_cast<std::size_t>(id) >= drawable ||
           std::find(stops.begin(), stops.end(), id) != stops.end();
  };
  const auto end = std::find_if(draft_.begin(), draft_.end(), useless);
  return std::min(most, static_cast<std::size_t>(end - draft_.begin()));
}

std::size_t Speculator::ask_model(std::span<const TokenId> ids, std::size_t count,
                                  std::size_t drawable, const SamplingOptions& sampling) {
  from_model_ = true;
  const auto start = std::chrono::steady_clock::now();
  const std::size_t drafted =
      model_->draft(ids, drawable, sampling, std::span(draft_).first(count));
  controller_.record_drafting(static_cast<int>(drafted), seconds_since(start));
  guesses_ = drafted;
  return drafted;
}

std::span<const TokenId> Speculator::propose(std::span<const TokenId> ids, std::size_t most,
                                             std::size_t drawable, const GenerateOptions& options) {
  most = std::min({most, static_cast<std::size_t>(options.max_draft),
                   static_cast<std::size_t>(longest_forward_ - 1)});
  from_model_ = false;
  next_ = 0;
  std::size_t found = look_up(ids, most, drawable);
  std::size_t asked = model_ != nullptr ? most : 0;
  if (options.speculation == Speculation::kAlways) {
    if (found > 0) asked = 0;
  } else {
    const auto looked = controller_.choose_lookup(match_.length, static_cast<int>(found));
    const auto model = controller_.choose_model(static_cast<int>(asked));
    const bool better = model.count > 0 && model.speed > looked.speed;
    found = static_cast<std::size_t>(looked.count);
    asked = better ? static_cast<std::size_t>(model.count) : 0;
  }
  if (asked > 0) found = ask_model(ids, asked, drawable, options.sampling);
  return std::span(draft_).first(found);
}

void Speculator::record(TokenId id, int rows, double seconds, bool foreseen) {
  if (rows > 0) {
    controller_.record_pass(rows, seconds);
  } else if (foreseen) {
    controller_.record_draw(seconds);
  } else {
    guesses_ = next_;  // They were for another text.
  }
  if (next_ >= guesses_) return;
  const bool hit = draft_[next_] == id;
  if (from_model_) {
    controller_.record_model(hit);
  } else {
    controller_.record_lookup(match_.length + static_cast<int>(next_), hit);
  }
  ++next_;
  if (!hit) guesses_ = next_;
}

void Speculator::rewind(std::size_t count) {
  index_.clear();
  guesses_ = next_ = 0;
  if (model_ != nullptr) model_->rewind(count);
}

void Speculator::clear() {
  index_.clear();
  guesses_ = next_ = 0;
  if (model_ != nullptr) model_->clear();
}

}  // namespace lapidary
