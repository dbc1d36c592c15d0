#include <algorithm>
#include <filesystem>
#include <utility>

#include "batch_plan.h"
#include "text.h"

namespace cli {

namespace {

using lapidary::Error;
using lapidary::ErrorCode;

// Line `number` of `answers`, as next() has read it, must be one that `item` can have there.
void check_record(const BatchOptions& options, const AnswerFile& answers, std::uint64_t number,
                  const BatchItem& item) {
  const AnswerRecord& record = answers.record();
  const std::string there = answers.path() + " line " + std::to_string(number);
  if (record.batch_seed)
    throw Error(ErrorCode::kUsage, there +
                                       " was written with --order done: go on with that, or use "
                                       "another file for the answers");
  // A line that could not be read had no id; since then it may have been repaired.
  const bool other_id = item.request.id != record.id;
  if (other_id && !(record.failed && record.id.is_null())) {
    refuse_line(options, item.request.line,
                "has id " + quoted(item.request.id) + ", but " + there + " answers " +
                    quoted(record.id) +
                    ": it belongs to another input or shard; use another file for the answers");
  }
  const bool same = record.digest.empty() ? !other_id : record.digest == item.digest;
  if (same || (record.failed && options.retry_failed)) return;
  refuse_changed(options, item, record.failed, there);
}

// Where requests are alike, only the seeds tell the answers of one shard from those of another.
void check_shard(const BatchOptions& options, const AnswerFile& answers, std::uint64_t number,
                 const BatchItem& item) {
  const AnswerRecord& record = answers.record();
  const std::uint64_t seed = options.sampling.seed.value_or(0) + item.place;
  if (options.shard.empty() || !record.seed || item.wrong || item.request.sampling.seed ||
      *record.seed == seed)
    return;
  refuse_line(options, item.request.line,
              "has seed " + std::to_string(seed) + ", but " + answers.path() + " line " +
                  std::to_string(number) + " was drawn with " + std::to_string(*record.seed) +
                  ": another --seed or another shard; use another file for the answers");
}

// Moves `requests` past those that `answers` has, and checks that they are the same. `passed` is
// called for each, with its bytes.
template <class Passed>
BatchStanding pass_answered(const BatchOptions& options, const Answerer& work,
                            RequestFile& requests, AnswerFile& answers, Passed passed) {
  BatchStanding standing;
  answers.rewind();
  std::string line;
  for (std::uint64_t place = 0; answers.next(); ++place) {
    const AnswerRecord& record = answers.record();
    const std::uint64_t begin = requests.read();
    if (!requests.next(line)) {
      const std::string share =
          options.shard.empty() ? "" : " has for shard " + options.share.shard.name();
      throw Error(ErrorCode::kUsage, answers.path() + " has " + counted(answers.count(), "line") +
                                         ", more than " + options.in + share +
                                         ": it belongs to another input or shard");
    }
    const BatchItem item = work.read(requests, line);
    check_record(options, answers, place + 1, item);
    standing.failed += record.failed ? 1 : 0;
    if (record.seed && !item.wrong && !item.request.sampling.seed)
      standing.seed = *record.seed - item.place;
    check_shard(options, answers, place + 1, item);
    passed(requests.read() - begin);
  }
  standing.there = answers.count();
  standing.line = requests.number();
  check_seed(options, standing, answers);
  return standing;
}

class InOrder : public BatchPlan {
 public:
  InOrder(const BatchOptions& options, const Answerer& work, RequestFile& requests,
          AnswerFile& answers)
      : BatchPlan(options, work, requests), answers_(answers) {
    if (options.retry_failed && answers.failed() > 0) {
      begin_retry();
    } else {
      standing_ = pass_answered(options, work, requests, answers, [](std::uint64_t) {});
    }
    place_ = standing_.there;
    read_ = requests.read();
    standing_.bytes = requests.bytes() - std::min(requests.bytes(), read_ + kept_bytes_);
    InOrder::wrote(place_);
  }

  Next next(BatchLine& line) override {
    const Next got = read(line);
    if (got != Next::kLine) return got;
    if (retried_ && line.place < answers_.count() && answers_.next() && !answers_.record().failed)
      line.kept = answers_.line();
    else
      line.item = work_.read(requests_, text_);
    return got;
  }

  AnswerFile& out() override { return retried_ ? *retried_ : answers_; }

  // Every line that was there is in the new file.
  void wrote(std::uint64_t lines) override {
    if (retried_ && lines == answers_.count()) retried_->replace(target_);
  }

  void finish() const override {}

 private:
  // All answers anew in a file beside them, those that are none taken over. A retry that was
  // stopped goes on. What it left may not fit the answers any more, and is not ours to throw away.
  void begin_retry() {
    const BatchStanding old = pass_old();
    target_ = std::filesystem::canonical(answers_.path()).string();
    retried_ = std::make_unique<AnswerFile>(target_ + ".retry", answers_.mode());
    try {
      answers_.rewind();
      bool fits = true;
      standing_ = pass_answered(options_, work_, requests_, *retried_, [&](std::uint64_t bytes) {
        const bool there = answers_.next();
        const bool kept = there && !answers_.record().failed;
        fits = fits && there && !(kept && retried_->record().failed);
        kept_bytes_ -= kept ? bytes : 0;
      });
      const bool other_seed = standing_.seed && old.seed && *standing_.seed != *old.seed;
      if (!fits || other_seed)
        throw Error(ErrorCode::kUsage, answers_.path() + " was written anew since it was retried");
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kUsage) throw;
      throw Error(ErrorCode::kUsage, error.what() + ("; or remove " + retried_->path()) +
                                         ", which an earlier --retry-failed left, to begin again");
    }
    if (!standing_.seed) standing_.seed = old.seed;
  }

  BatchStanding pass_old() {
    RequestFile again(options_.in, options_.share);
    again.set_most_bytes(work_.most_line_bytes());
    return pass_answered(options_, work_, again, answers_, [&](std::uint64_t bytes) {
      kept_bytes_ += answers_.record().failed ? 0 : bytes;
    });
  }

  AnswerFile& answers_;
  std::unique_ptr<AnswerFile> retried_;
  std::string target_;            // Where retried_ goes in the end.
  std::uint64_t kept_bytes_ = 0;  // Of requests to come whose answers are taken over.
};

}  // namespace

std::unique_ptr<BatchPlan> plan_in_order(const BatchOptions& options, const Answerer& work,
                                         RequestFile& requests, AnswerFile& answers) {
  return std::make_unique<InOrder>(options, work, requests, answers);
}

}  // namespace cli
