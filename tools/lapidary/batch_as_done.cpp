#include <algorithm>
#include <charconv>
#include <filesystem>
#include <utility>
#include <vector>

#include "batch_plan.h"
#include "id_lines.h"
#include "output_file.h"
#include "text.h"

namespace cli {

namespace {

using lapidary::Error;
using lapidary::ErrorCode;

constexpr const char* kNeedsIds = "--order done needs an id of its own for every request";

// 0 where there is none.
std::uint64_t digest_number(const std::string& digest) {
  std::uint64_t number = 0;
  std::from_chars(digest.data(), digest.data() + digest.size(), number, 16);
  return number;
}

// The answers that were there, in 16 bytes and a bit each.
class Answered {
 public:
  struct Entry {
    std::uint64_t key = 0;
    std::uint64_t digest = 0;  // The lowest bit: it is an error.
  };

  void reserve(std::uint64_t count) { entries_.reserve(static_cast<std::size_t>(count)); }

  void add(const AnswerRecord& record) {
    const std::uint64_t digest = digest_number(record.digest) & ~std::uint64_t{1};
    entries_.push_back({id_key(record.id), digest | (record.failed ? 1U : 0U)});
  }
  // False when two have the same id.
  bool sort() {
    std::ranges::sort(entries_, {}, &Entry::key);
    met_.assign(entries_.size(), false);
    unmet_ = entries_.size();
    return std::ranges::adjacent_find(entries_, {}, &Entry::key) == entries_.end();
  }

  // nullptr: no answer.
  const Entry* find(std::uint64_t key) {
    const auto found = std::ranges::lower_bound(entries_, key, {}, &Entry::key);
    if (found == entries_.end() || found->key != key) return nullptr;
    const auto at = static_cast<std::size_t>(found - entries_.begin());
    unmet_ -= met_[at] ? 0 : 1;
    met_[at] = true;
    return &*found;
  }

  std::size_t unmet() const { return unmet_; }  // That find() has not found.

 private:
  std::vector<Entry> entries_;
  std::vector<bool> met_;
  std::size_t unmet_ = 0;
};

class AsDone : public BatchPlan {
 public:
  AsDone(const BatchOptions& options, const Answerer& work, RequestFile& requests,
         AnswerFile& answers)
      : BatchPlan(options, work, requests), answers_(&answers) {
    read_answers();
    if (is_file(options.in)) look_ahead();
    if (options.retry_failed && answers.failed() > 0) drop_failed();
    standing_.there = answers_->count();
    standing_.failed = answers_->failed();
  }

  Next next(BatchLine& line) override {
    for (;;) {
      const Next got = read(line);
      if (got != Next::kLine) return got;
      line.item = work_.read(requests_, text_);
      if (!answered(line.item)) return got;
    }
  }

  AnswerFile& out() override { return *answers_; }
  void wrote(std::uint64_t /*lines*/) override {}

  void finish() const override {
    if (answered_.unmet() == 0) return;
    throw Error(ErrorCode::kUsage, answers_->path() + " answers " +
                                       counted(answered_.unmet(), "id") +
                                       " that the requests have not: it belongs to another input "
                                       "or shard; use another file for the answers");
  }

 private:
  // Errors are taken out of the file of answers, and so come again.
  void drop_failed() {
    const std::string path = std::filesystem::canonical(answers_->path()).string();
    OutputFile kept(path);
    answers_->rewind();
    while (answers_->next()) {
      if (!answers_->record().failed) kept.write(answers_->line());
    }
    kept.keep();
    reopened_ = std::make_unique<AnswerFile>(path);
    answers_ = reopened_.get();
  }

  void read_answers() {
    answers_->rewind();
    answered_.reserve(answers_->count());
    for (std::uint64_t number = 1; answers_->next(); ++number) {
      const AnswerRecord& record = answers_->record();
      if (record.id.is_null() || (!record.failed && !record.batch_seed)) {
        throw Error(ErrorCode::kUsage, answers_->path() + " line " + std::to_string(number) +
                                           " was written with --order input: go on with that, or "
                                           "use another file for the answers");
      }
      if (record.batch_seed) standing_.seed = record.batch_seed;
      if (!record.failed || !options_.retry_failed) answered_.add(record);
    }
    if (!answered_.sort())
      throw Error(ErrorCode::kUsage, answers_->path() + " answers an id twice; " + kNeedsIds);
    check_seed(options_, standing_, *answers_);
  }

  // That the answers belong to these requests is better known before anything is computed.
  void look_ahead() {
    RequestFile requests(options_.in, options_.share);
    requests.set_most_bytes(work_.most_line_bytes());
    standing_.bytes = requests.bytes();
    std::string line;
    for (std::uint64_t begin = 0; answered_.unmet() > 0 && requests.next(line);
         begin = requests.read()) {
      if (answered(work_.read(requests, line))) standing_.bytes -= requests.read() - begin;
    }
    finish();
  }

  // Throws for an id that is none of its own, and for an answer to something else.
  bool answered(const BatchItem& item) {
    const auto number = static_cast<std::uint32_t>(item.request.line);
    if (item.request.id.is_null()) {
      refuse_line(
          options_, item.request.line,
          "has no id" + (item.wrong ? " (" + item.wrong->message + ")" : "") + ": " + kNeedsIds);
    }
    const std::uint64_t key = id_key(item.request.id);
    if (const std::uint32_t first = ids_.first(key, number); first != number) {
      refuse_line(options_, item.request.line,
                  "has the id of line " + std::to_string(first) + ", " + quoted(item.request.id) +
                      ": " + kNeedsIds);
    }
    const Answered::Entry* answer = answered_.find(key);
    if (answer == nullptr) return false;
    const std::uint64_t digest = answer->digest & ~std::uint64_t{1};
    if (digest != 0 && digest != (digest_number(item.digest) & ~std::uint64_t{1}))
      refuse_changed(options_, item, (answer->digest & 1U) != 0, answers_->path());
    return true;
  }

  AnswerFile* answers_;
  std::unique_ptr<AnswerFile> reopened_;
  Answered answered_;
  IdLines ids_;
};

}  // namespace

std::unique_ptr<BatchPlan> plan_as_done(const BatchOptions& options, const Answerer& work,
                                        RequestFile& requests, AnswerFile& answers) {
  return std::make_unique<AsDone>(options, work, requests, answers);
}

}  // namespace cli
