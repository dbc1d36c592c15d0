#include "batch_run.h"

#include <unistd.h>

#include <utility>

#include "speculation_flags.h"
#include "terminal.h"
#include "text.h"

namespace cli {

namespace {

using lapidary::Error;
using lapidary::ErrorCode;

constexpr std::uint64_t kMostHeldBytes = std::uint64_t{64} << 20;

// A batch with pictures and no vision file would fail on every line that has one: better said at
// once. A pipe cannot be read ahead.
void check_vision(const BatchOptions& options, const lapidary::Model& model, const Answerer& work,
                  int after_line) {
  if (model.vision() != nullptr || !is_file(options.in)) return;
  RequestFile requests(options.in, options.share);
  requests.set_most_bytes(work.most_line_bytes());
  for (std::string line; requests.next(line);) {
    if (requests.number() <= after_line || line.find("\"image") == std::string::npos) continue;
    if (work.read(requests, line).request.has_pictures())
      refuse_line(options, requests.number(), std::string("has pictures, but ") + kNoVisionFile);
  }
}

std::unique_ptr<BatchPlan> make_plan(const BatchOptions& options, const Answerer& work,
                                     RequestFile& requests, AnswerFile& answers) {
  requests.set_most_bytes(work.most_line_bytes());
  return options.as_done() ? plan_as_done(options, work, requests, answers)
                           : plan_in_order(options, work, requests, answers);
}

}  // namespace

BatchRun::BatchRun(const BatchOptions& options, const lapidary::Model& model, RequestFile& requests,
                   AnswerFile& answers)
    : options_(options),
      requests_(requests),
      work_(options, model),
      plan_(make_plan(options, work_, requests, answers)),
      seed_(plan_->standing().seed.value_or(options.sampling.seed_or_random())),
      window_(options, work_, seed_),
      writer_(*plan_, options.as_done(), plan_->standing().there),
      progress_(options.model.quiet),
      failed_(plan_->standing().failed) {
  count_.all_bytes = plan_->standing().bytes;
  check_vision(options, model, work_, plan_->standing().line);
}

int BatchRun::run() {
  const double start = now();
  for (;;) {
    fill();
    if (interrupted) throw Error(ErrorCode::kInterrupted, "interrupted");
    if (window_.empty()) {
      if (ended_) break;
      requests_.wait();
      continue;
    }
    for (const BatchResult& result : window_.step()) write(result);
    progress_.computed(count_);
  }
  progress_.finish();
  plan_->finish();
  work_.tell_prefix_cache();
  if (!options_.model.quiet) print_statistics(now() - start);
  return failed_ > 0 ? 1 : 0;
}

// Reads as far ahead as is of use, and not what has not come yet.
void BatchRun::fill() {
  while (!ended_ && !interrupted && window_.room() && writer_.held_bytes() < kMostHeldBytes) {
    BatchLine line;
    const Next got = plan_->next(line);
    ended_ = got == Next::kEnd;
    if (got != Next::kLine || !add(line)) return;
  }
}

// False when it took long: what is under way goes on first.
bool BatchRun::add(const BatchLine& line) {
  if (!line.kept.empty()) {
    writer_.take(line.place, line.kept);
    return true;
  }
  if (const std::optional<BatchResult> result = window_.add(line)) write(*result);
  return !line.item.request.has_pictures();
}

void BatchRun::write(const BatchResult& result) {
  failed_ += result.failed ? 1 : 0;
  writer_.take(result.place, result.line);
  const BatchCount& window = window_.count();
  count_ = {count_.bytes + result.bytes,
            count_.all_bytes,
            count_.lines + 1,
            window.tokens,
            window.prompt,
            window.cached,
            window.drafted,
            window.accepted};
  progress_.answered(count_);
}

void BatchRun::print_statistics(double seconds) const {
  std::string text = counted(count_.lines, "line") +
                     format(" in %.2f s (%llu were there), ", seconds,
                            static_cast<unsigned long long>(plan_->standing().there));
  text += counted(count_.tokens, "token") +
          format(" drawn (%.1f t/s), ", rate(static_cast<double>(count_.tokens), seconds));
  text += counted(failed_, "line") + " failed, seed " + std::to_string(seed_);
  if (!options_.shard.empty()) text += ", shard " + options_.share.shard.name();
  if (count_.cached > 0)
    text += ", " + std::to_string(count_.cached) + " of " + std::to_string(count_.prompt) +
            " prompt tokens were there";
  if (count_.drafted > 0)
    text += ", " + std::to_string(count_.accepted) + " of " + std::to_string(count_.drafted) +
            " guesses right";
  write_all(STDERR_FILENO, text + "\n");
}

}  // namespace cli
