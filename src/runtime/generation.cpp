#include "runtime/generation.h"

#include <algorithm>
#include <chrono>
#include <string>

#include "base/boundary.h"
#include "base/cancel.h"
#include "base/format.h"
#include "lapidary/error.h"
#include "lapidary/utf8.h"
#include "runtime/log_probabilities.h"
#include "runtime/model_impl.h"
#include "runtime/speculator.h"
#include "text/tokenizer_impl.h"

namespace lapidary {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

}  // namespace

void Generation::check(const GenerateOptions& options) {
  validate(options.sampling);
  if (options.max_tokens < -1) {
    throw Error(ErrorCode::kUsage,
                format("max_tokens must be -1 (no limit) or more, not {}", options.max_tokens));
  }
  if (options.max_draft < 1 || options.max_draft > kMaxDraft) {
    throw Error(ErrorCode::kUsage,
                format("max_draft must be 1 to {}, not {}", kMaxDraft, options.max_draft));
  }
  if (options.logprobs != -1) check_logprobs(options.logprobs, "logprobs");
  for (const std::string& stop : options.stop) {
    // A stop string inside a character would hand out the character's first bytes alone.
    if (stop.empty()) throw Error(ErrorCode::kUsage, "a stop string must not be empty");
    if (is_continuation(stop.front()))
      throw Error(ErrorCode::kUsage, "a stop string must be valid UTF-8");
  }
}

Generation::Generation(Sequence& session, const GenerateOptions& options)
    : session_(session), options_(options), detokenizer_(session.engine->model.tokenizer()) {
  check(options_);
  if (session_.ids.empty()) {
    throw Error(ErrorCode::kUsage,
                "nothing to continue: the session holds no token (append at least <bos>)");
  }
  if (wants_logprobs()) options_.speculation = Speculation::kOff;
  if (options_.speculation != Speculation::kOff) prepare_drafts();
  const std::size_t room = static_cast<std::size_t>(session_.plan.context) - session_.ids.size();
  limit_ = options_.max_tokens < 0 ? room
                                   : std::min(room, static_cast<std::size_t>(options_.max_tokens));
  drawable_ = drawable_ids(session_.engine->model);
  completion_.ids.reserve(limit_);
  completion_.text.reserve(limit_ * session_.engine->model.tokenizer().longest_piece() +
                           kReplacement.size());
  completion_.usage.prompt_tokens = static_cast<int>(session_.ids.size());
  completion_.usage.cached_tokens = session_.cached;
  completion_.usage.prefill_seconds = session_.prefill_seconds;
}

void Generation::prepare_drafts() {
  if (session_.speculator == nullptr) {
    session_.speculator =
        std::make_unique<Speculator>(session_.engine->model, session_.plan, SessionOptions{});
  }
  session_.allow_drafts();
}

bool Generation::step() {
  if (finished_) return false;
  const auto start = std::chrono::steady_clock::now();
  if (wants_token()) take(next_id());
  completion_.usage.decode_seconds +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return true;
}

bool Generation::wants_token() {
  piece_ = {};
  if (finished_) return false;
  if (is_set(options_.cancel)) {
    finish(FinishReason::kCancelled);
  } else if (completion_.ids.size() == limit_) {
    finish(FinishReason::kLength);
  }
  return !finished_;
}

// Nothing where the model need not run, or where a draft cannot be used up.
std::span<const TokenId> Generation::make_draft() {
  if (options_.speculation == Speculation::kOff || !session_.needs_forward()) return {};
  const std::size_t most = limit_ - completion_.ids.size() - 1;
  return session_.speculator->propose(session_.ids, most, drawable_, options_);
}

void Generation::note(TokenId id, std::span<const float> logits) {
  completion_.logprobs.push_back(LogSoftmax(logits).of(id, options_.logprobs));
}

/// With all logits there already, the same id is drawn of them.
TokenId Generation::next_id_noted() {
  EngineCore& engine = *session_.engine;
  const Turn turn(engine);
  session_.compute_in_turn();
  const HiddenRow last = session_.last_row();
  engine.logits.compute({&last, 1});
  const TokenId id = session_.draw_in_turn(session_.ids, drawable_, options_.sampling);
  note(id, engine.logits.all(last.number));
  return id;
}

TokenId Generation::next_id() {
  if (wants_logprobs()) return next_id_noted();
  const bool forward = session_.needs_forward();
  const bool foreseen =
      !forward && static_cast<std::size_t>(session_.computed) != session_.ids.size();
  const std::span<const TokenId> draft = make_draft();
  const auto start = std::chrono::steady_clock::now();
  session_.compute(draft);
  const TokenId id = session_.draw(session_.ids, drawable_, options_.sampling);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  if (options_.speculation == Speculation::kOff) return id;
  const int rows = forward ? 1 + static_cast<int>(draft.size()) : 0;
  session_.speculator->record(id, rows, seconds.count(), foreseen);
  const std::span<const TokenId> ahead = session_.ahead();
  completion_.usage.drafted_tokens += static_cast<int>(draft.size());
  completion_.usage.accepted_tokens += !ahead.empty() && ahead.front() == id ? 1 : 0;
  return id;
}

void Generation::take(TokenId id) {
  std::vector<TokenId>& ids = session_.ids;
  completion_.ids.push_back(id);
  completion_.usage.completion_tokens += 1;
  const std::span<const TokenId> stop_ids = session_.engine->model.tokenizer().stop_ids();
  if (std::find(stop_ids.begin(), stop_ids.end(), id) != stop_ids.end())
    return finish(FinishReason::kStop);
  ids.push_back(id);  // Computed with the next draw, or with what is appended next.
  completion_.text += detokenizer_.push(id);
  if (cut_at_stop_string()) {
    release_text(completion_.text.size());
    finished_ = true;
    completion_.finish_reason = FinishReason::kStop;
    return settle();
  }
  if (completion_.ids.size() == limit_) return finish(FinishReason::kLength);
  release_text(completion_.text.size() - held_back());
}

void Generation::release_text(std::size_t end) {
  piece_ = std::string_view(completion_.text).substr(released_, end - released_);
  released_ = end;
}

// The earliest stop string ends the text; none can begin before released_, since whatever could
// begin one was held back.
bool Generation::cut_at_stop_string() {
  std::size_t cut = std::string::npos;
  for (const std::string& stop : options_.stop)
    cut = std::min(cut, completion_.text.find(stop, released_));
  if (cut == std::string::npos) return false;
  completion_.text.resize(cut);
  return true;
}

// Bytes at the end that the next tokens may complete to a stop string.
std::size_t Generation::held_back() const {
  const std::string_view text = std::string_view(completion_.text).substr(released_);
  std::size_t held = 0;
  for (const std::string& stop : options_.stop) {
    for (std::size_t n = std::min(stop.size() - 1, text.size()); n > held; --n) {
      if (text.ends_with(std::string_view(stop).substr(0, n))) held = n;
    }
  }
  return held;
}

void Generation::finish(FinishReason reason) {
  finished_ = true;
  completion_.finish_reason = reason;
  if (!detokenizer_.finish().empty()) completion_.text += kReplacement;
  release_text(completion_.text.size());
  settle();
}

void Generation::cancel() {
  if (!finished_) finish(FinishReason::kCancelled);
}

// From here on, what was computed counts as cached for the generation after this one.
void Generation::settle() {
  if (settled_) return;
  settled_ = true;
  session_.cached = session_.computed;
  session_.prefill_seconds = 0;
}

Completion Generation::run(const OnText& on_text) {
  while (step()) {
    if (on_text && !piece_.empty() && !call_host(on_text, piece_)) cancel();
  }
  session_.engine->write_places();
  return std::move(completion_);
}

}  // namespace lapidary
