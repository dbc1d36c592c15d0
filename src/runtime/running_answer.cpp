#include "runtime/running_answer.h"

#include <utility>

#include "base/cancel.h"

namespace lapidary {

RunningAnswer::RunningAnswer(const std::shared_ptr<EngineCore>& engine, const SessionPlan& plan,
                             std::shared_ptr<const QueuedRequest> request, int index)
    : sequence(engine, plan), request_(std::move(request)), index_(index) {
  sequence.keeps = request_->request.keep;
}

double RunningAnswer::seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

bool RunningAnswer::cancelled() const { return is_set(request_->request.options.cancel); }

void RunningAnswer::begin(int keep_at, bool alone) {
  start_ = std::chrono::steady_clock::now();
  GenerateOptions options = request_->request.options;
  if (!alone) options.speculation = Speculation::kOff;
  options.sampling.seed += static_cast<std::uint64_t>(index_);
  sequence.begin(prompt().ids, prompt().images);
  if (keep_at > 0) sequence.keep_at(keep_at);
  generation_.emplace(sequence, options);
}

bool RunningAnswer::wants_pass() const {
  return begun() && !finished() &&
         static_cast<std::size_t>(sequence.computed) < sequence.ids.size();
}

void RunningAnswer::end_piece(const Piece& piece, int row) {
  sequence.end_piece(piece, sequence.engine->decoder, row);
  if (prompted_ || static_cast<std::size_t>(sequence.computed) < sequence.ids.size()) return;
  prompted_ = true;
  sequence.end_append();
  generation_->completion().usage.prefill_seconds = seconds_since(start_);
  start_ = std::chrono::steady_clock::now();
}

bool RunningAnswer::wants_token() {
  if (!begun() || finished()) return false;
  const bool computed = static_cast<std::size_t>(sequence.computed) == sequence.ids.size();
  if (!computed && !cancelled()) return false;
  return generation_->wants_token();
}

void RunningAnswer::step_alone() {
  try {
    generation_->step();
  } catch (const Error& error) {
    fail(error);
  }
}

bool RunningAnswer::finished() const {
  return error_.has_value() || (begun() && generation_->finished());
}

/// Of an answer that nobody goes on with, the prompt alone, and that only if it was much work.
void RunningAnswer::keep_prompt() const {
  const Sequence& own = sequence;
  const auto cached = static_cast<std::size_t>(generation_->completion().usage.cached_tokens);
  const std::size_t size = prompt().ids.size();
  if (!own.engine->plan.reuse || own.keeps || size < cached + kWorthKeeping) return;
  own.engine->kept.keep(own.computed_prefix().first(size), own.table);
}

Answer RunningAnswer::answer() {
  if (prompted_) {
    generation_->set_decode_seconds(seconds_since(start_));
    keep_prompt();
  }
  Answer answer{request_->number, index_, {}, std::move(error_)};
  if (begun()) answer.completion = std::move(generation_->completion());
  return answer;
}

}  // namespace lapidary
