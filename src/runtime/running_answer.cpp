#include "runtime/running_answer.h"

#include <algorithm>
#include <utility>

#include "base/cancel.h"
#include "runtime/log_probabilities.h"

namespace lapidary {

namespace {

/// Of a prompt that nobody is known to share, so many positions are worth to be written.
constexpr std::size_t kLongPrompt = 1024;

}  // namespace

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
  if (scores()) options = {.max_tokens = 0, .cancel = options.cancel};
  if (echoes()) echo_.resize(prompt().ids.size());
  sequence.begin(prompt().ids, prompt().images, echoes());
  if (keep_at > 0) sequence.keep_at(keep_at);
  generation_.emplace(sequence, options);
}

bool RunningAnswer::wants_pass() const {
  if (!begun() || finished()) return false;
  return scoring_ || static_cast<std::size_t>(sequence.computed) < sequence.ids.size();
}

void RunningAnswer::add_pieces(int most, std::vector<Piece>& pieces) {
  if (scoring_) return scoring_->add_pieces(most, pieces);
  piece_ = sequence.next_piece(most);
  if (echoes() && !prompted_) piece_->first_row = 0;
  pieces.push_back(*piece_);
}

int RunningAnswer::end_pass(int row) {
  if (scoring_) return scoring_->end_pass(row);
  const int rows = static_cast<int>(piece_->ids.size()) - piece_->first_row;
  if (echoes() && !prompted_) note_echo(row);
  sequence.end_piece(*piece_, sequence.engine->decoder, row);
  piece_.reset();
  if (!prompted_ && static_cast<std::size_t>(sequence.computed) == sequence.ids.size())
    end_prompt();
  return rows;
}

void RunningAnswer::end_prompt() {
  prompted_ = true;
  if (prompt().ids.size() >= static_cast<std::size_t>(sequence.cached) + kLongPrompt)
    sequence.store_end(kLongPrompt);
  sequence.end_append();
  generation_->completion().usage.prefill_seconds = seconds_since(start_);
  start_ = std::chrono::steady_clock::now();
  if (!scores()) return;
  try {
    scoring_.emplace(sequence, request_->request.choices);
  } catch (const Error& error) {
    fail(error);
  }
}

/// Which rows of the prompt's piece say how probable the token behind them was.
void RunningAnswer::note_echo(int row) {
  const TokenId image = sequence.engine->model.tokenizer().image_token();
  for (std::size_t i = 0; i < piece_->ids.size(); ++i, ++row) {
    const std::size_t next = static_cast<std::size_t>(piece_->position) + i + 1;
    if (next == prompt().ids.size() || prompt().ids[next] == image) continue;
    echo_rows_.push_back(sequence.engine->decoder.row(row));
    echo_places_.push_back(next);
  }
}

std::span<const float* const> RunningAnswer::rows() const {
  if (finished()) return {};
  return scoring_ ? scoring_->rows() : echo_rows_;
}

void RunningAnswer::take_row(std::size_t i, std::span<const float> logits) {
  if (scoring_) return scoring_->take(i, logits);
  const std::size_t place = echo_places_[i];
  echo_[place] =
      LogSoftmax(logits).of(prompt().ids[place], std::max(0, request_->request.options.logprobs));
}

void RunningAnswer::end_rows() {
  echo_rows_.clear();
  echo_places_.clear();
  if (!scoring_ || finished()) return;
  scoring_->end_rows();
  if (!scoring_->done()) return;
  scores_ = scoring_->scores();
  scored_ = true;
  generation_->completion().finish_reason = FinishReason::kStop;
}

bool RunningAnswer::wants_token() {
  if (!begun() || finished() || (scores() && !cancelled())) return false;
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
  return error_.has_value() || scored_ || (begun() && generation_->finished());
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
  scoring_.reset();
  if (prompted_) {
    generation_->set_decode_seconds(seconds_since(start_));
    keep_prompt();
  }
  Answer answer;
  answer.request = request_->number;
  answer.index = index_;
  answer.error = std::move(error_);
  if (begun()) answer.completion = std::move(generation_->completion());
  answer.scores = std::move(scores_);
  answer.prompt = std::move(echo_);
  return answer;
}

}  // namespace lapidary
