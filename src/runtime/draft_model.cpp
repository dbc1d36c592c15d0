#include "runtime/draft_model.h"

#include <algorithm>
#include <string>

#include "base/format.h"
#include "lapidary/error.h"
#include "runtime/model_impl.h"

namespace lapidary {

void check_same_vocabulary(const Model& draft, const Model& target) {
  const std::size_t count = drawable_ids(draft);
  if (count != drawable_ids(target)) {
    throw Error(ErrorCode::kUsage,
                format("the draft model has a vocabulary of {} ids, but the model has {}", count,
                       drawable_ids(target)));
  }
  for (std::size_t i = 0; i < count; ++i) {
    const auto id = static_cast<TokenId>(i);
    if (draft.tokenizer().piece(id) == target.tokenizer().piece(id)) continue;
    throw Error(ErrorCode::kUsage,
                format("the draft model has another vocabulary than the model: id {} differs", id));
  }
}

SessionOptions DraftModel::session_options(const SessionPlan& plan, int threads) {
  SessionOptions options;
  options.context = plan.context;
  options.chunk = std::max(plan.chunk, kMaxDraft);  // So far back it may have to go.
  options.threads = threads;
  options.snapshot_memory = 0;
  return options;
}

DraftModel::DraftModel(const Model& draft, const SessionOptions& options, TokenId image_token)
    : sequence_(draft, options), image_token_(image_token) {
  history_.reserve(static_cast<std::size_t>(sequence_.plan.context));
}

void DraftModel::take(std::span<const TokenId> ids) {
  const std::size_t sure = history_.size() - drafted_;
  std::size_t common = sure;
  while (common < std::min(ids.size(), history_.size()) && ids[common] == history_[common])
    ++common;
  sequence_.rewind(sequence_.ids.size() - (history_.size() - common));
  history_.resize(common);
  drafted_ = 0;
  for (const TokenId id : ids.subspan(common)) {
    history_.push_back(id);
    if (id != image_token_) sequence_.ids.push_back(id);
  }
}

void DraftModel::follow(std::span<const TokenId> ids) {
  take(ids);
  sequence_.compute();
}

std::size_t DraftModel::draft(std::span<const TokenId> ids, std::size_t drawable,
                              const SamplingOptions& sampling, std::span<TokenId> out) {
  take(ids);
  if (sequence_.ids.empty()) return 0;
  const std::span<const TokenId> stops = sequence_.engine->model.tokenizer().stop_ids();
  for (std::size_t i = 0; i < out.size(); ++i) {
    const TokenId id = sequence_.draw(history_, drawable, sampling);
    if (std::find(stops.begin(), stops.end(), id) != stops.end()) return i;
    out[i] = id;
    history_.push_back(id);
    sequence_.ids.push_back(id);
    ++drafted_;
  }
  return out.size();
}

void DraftModel::rewind(std::size_t count) {
  if (count >= history_.size()) return;
  const auto end = history_.begin() + static_cast<std::ptrdiff_t>(count);
  const auto images = std::count(end, history_.end(), image_token_);
  sequence_.rewind(sequence_.ids.size() -
                   (history_.size() - count - static_cast<std::size_t>(images)));
  drafted_ -= std::min(drafted_, history_.size() - count);
  history_.resize(count);
}

void DraftModel::clear() {
  sequence_.clear();
  history_.clear();
  drafted_ = 0;
}

}  // namespace lapidary
