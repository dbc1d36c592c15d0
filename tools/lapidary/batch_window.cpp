#include "batch_window.h"

#include <algorithm>
#include <new>
#include <utility>

#include "batch_answer.h"

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;

namespace {

// The line with what an answer says of it, and nothing else: prompts are long.
BatchLine slim(const BatchLine& line) {
  BatchLine slim{line.place, line.bytes, {}};
  BatchRequest& request = slim.item.request;
  request.line = line.item.request.line;
  request.openai = line.item.request.openai;
  request.openai_chat = line.item.request.openai_chat;
  request.id = line.item.request.id;
  request.choices = line.item.request.choices;
  request.logprobs = line.item.request.logprobs;
  request.echo = line.item.request.echo;
  slim.item.digest = line.item.digest;
  return slim;
}

}  // namespace

BatchWindow::BatchWindow(const BatchOptions& options, Answerer& work, std::uint64_t seed)
    : options_(options),
      work_(work),
      scheduler_(work.engine(), {.parallel = options.parallel}),
      seed_(seed) {}

bool BatchWindow::room() const {
  constexpr std::size_t kLeastAhead = 16;
  constexpr std::size_t kTimesParallel = 4;
  constexpr std::uint64_t kLeastSpan = 1024;
  if (pending_.empty()) return true;
  const std::size_t parallel = scheduler_.parallel();
  const std::uint64_t span = last_place_ - pending_.begin()->second.line.place;
  return scheduler_.waiting() < std::max(kLeastAhead, kTimesParallel * parallel) &&
         span < std::max<std::uint64_t>(kLeastSpan, kTimesParallel * kTimesParallel * parallel) &&
         prompt_bytes_ < work_.most_prompt_bytes();
}

std::optional<BatchResult> BatchWindow::add(const BatchLine& line) {
  try {
    Pending pending;
    pending.seed = line.item.request.sampling.seed.value_or(seed_ + line.item.place);
    lapidary::Request request = work_.prepare(line.item, pending.seed);
    pending.line = slim(line);
    pending.prompt_bytes = prompt_bytes(request);
    pending.prompt_tokens = request.prompt.ids.size();
    pending.missing = static_cast<std::size_t>(request.answers);
    pending.drawn.resize(pending.missing);
    if (line.item.request.echo) {
      pending.echoed.ids = request.prompt.ids;
      pending.echoed.text = work_.tokenizer().decode(request.prompt.ids);
    }
    prompt_bytes_ += pending.prompt_bytes;
    last_place_ = line.place;
    pending_.emplace(scheduler_.add(std::move(request)), std::move(pending));
    return {};
  } catch (const RequestError& error) {
    return fail(line, error);
  } catch (const std::bad_alloc&) {
    return fail(line, {"out_of_memory", "not enough memory"});
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kInterrupted) throw;
    return fail(line, request_error(error));
  }
}

BatchResult BatchWindow::fail(const BatchLine& line, const RequestError& error) const {
  return {line.place, line.bytes, error_line(line.item.request, error, line.item.digest), true};
}

std::vector<BatchResult> BatchWindow::step() {
  std::vector<BatchResult> results;
  for (lapidary::Answer& answer : scheduler_.step()) {
    const auto found = pending_.find(answer.request);
    if (found == pending_.end()) continue;  // Another answer to it has failed.
    std::optional<BatchResult> result = take(found->second, answer);
    if (!result) continue;
    results.push_back(*std::move(result));
    prompt_bytes_ -= found->second.prompt_bytes;
    pending_.erase(found);
  }
  return results;
}

// The result of a request that has all its answers now, or will not have them.
std::optional<BatchResult> BatchWindow::take(Pending& pending, lapidary::Answer& answer) {
  if (answer.error) {
    if (answer.error->code() == ErrorCode::kInterrupted) return {};
    return fail(pending.line, request_error(*answer.error));
  }
  if (answer.completion.finish_reason == lapidary::FinishReason::kCancelled) return {};
  std::optional<lapidary::Completion>& place =
      pending.drawn.at(static_cast<std::size_t>(answer.index));
  pending.missing -= place ? 0 : 1;
  place = std::move(answer.completion);
  if (answer.index == 0) {
    pending.scores = std::move(answer.scores);
    pending.echoed.logprobs = std::move(answer.prompt);
  }
  if (pending.missing > 0) return {};
  return whole(pending);
}

BatchChoice BatchWindow::choice(const Pending& pending, const lapidary::Completion& drawn) const {
  const BatchRequest& request = pending.line.item.request;
  BatchChoice choice{pending.echoed.text + drawn.text, drawn.finish_reason};
  if (request.logprobs >= 0) {
    choice.logprobs = request.openai_chat
                          ? chat_logprobs(work_.tokenizer(), drawn)
                          : completion_logprobs(work_.tokenizer(), pending.echoed, drawn);
  }
  return choice;
}

BatchResult BatchWindow::whole(const Pending& pending) {
  BatchAnswer answer;
  answer.prompt_tokens = pending.prompt_tokens;
  answer.cached_tokens = static_cast<std::uint64_t>(pending.drawn.front()->usage.cached_tokens);
  answer.seed = pending.seed;
  if (options_.as_done()) answer.batch_seed = seed_;
  for (const std::optional<lapidary::Completion>& drawn : pending.drawn) {
    answer.choices.push_back(choice(pending, *drawn));
    answer.completion_tokens += drawn->ids.size();
    count_.drafted += static_cast<std::uint64_t>(drawn->usage.drafted_tokens);
    count_.accepted += static_cast<std::uint64_t>(drawn->usage.accepted_tokens);
  }
  answer.scores = pending.scores;
  for (const lapidary::Score& score : pending.scores)
    answer.completion_tokens += score.tokens.size();
  count_.tokens += pending.scores.empty() ? answer.completion_tokens : 0;
  count_.prompt += answer.prompt_tokens;
  count_.cached += answer.cached_tokens;
  const BatchItem& item = pending.line.item;
  return {pending.line.place, pending.line.bytes,
          answer_line(item.request, answer, work_.name(), item.digest), false};
}

bool BatchWindow::empty() const {
  if (pending_.empty()) return true;
  if (scheduler_.idle() && !interrupted)
    throw Error(ErrorCode::kFailed, "a request was given up without an answer");
  return false;
}

}  // namespace cli
