#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "answer_file.h"
#include "answerer.h"
#include "request_file.h"

namespace cli {

/// A request that has no answer yet.
struct BatchLine {
  std::uint64_t place = 0;  ///< Among the requests of this shard, from 0.
  std::uint64_t bytes = 0;  ///< In their file.
  BatchItem item;           ///< Not set where `kept` is.
  std::string kept = {};    ///< The line of answers that is taken over instead; empty: none.
};

/// Where a batch stands when it begins.
struct BatchStanding {
  std::uint64_t there = 0;            ///< Lines that were answered.
  std::size_t failed = 0;             ///< Of those, errors.
  std::optional<std::uint64_t> seed;  ///< Of place 0, from which those of all lines without one of
                                      ///< their own follow; nothing: none was used yet.
  std::uint64_t bytes = 0;            ///< Of the requests that are to be answered; 0: not known.
  int line = 0;                       ///< Of the requests, up to which all are answered.
};

/// Which requests are to be answered, and in which file. What earlier runs have answered is checked
/// against the requests: Error(kUsage), with the way out, where they do not belong together.
class BatchPlan {
 public:
  BatchPlan(const BatchOptions& options, const Answerer& work, RequestFile& requests)
      : options_(options), work_(work), requests_(requests) {}
  virtual ~BatchPlan() = default;
  BatchPlan(const BatchPlan&) = delete;
  BatchPlan& operator=(const BatchPlan&) = delete;

  const BatchStanding& standing() const { return standing_; }

  /// The next line to answer, in the order of the requests; does not wait.
  virtual Next next(BatchLine& line) = 0;
  virtual AnswerFile& out() = 0;

  /// The lines in front of place `lines` are all in out().
  virtual void wrote(std::uint64_t lines) = 0;

  /// All requests have been read.
  virtual void finish() const = 0;

 protected:
  /// Reads the next request into text_, and where it stands into `line`; does not wait.
  Next read(BatchLine& line);

  const BatchOptions& options_;
  const Answerer& work_;
  RequestFile& requests_;
  BatchStanding standing_;
  std::uint64_t place_ = 0;  ///< Of the next request.
  std::uint64_t read_ = 0;   ///< Bytes of requests.
  std::string text_;         ///< Of the last request.
};

/// Answers in the order of the requests: line k of one file answers request k of the other.
std::unique_ptr<BatchPlan> plan_in_order(const BatchOptions& options, const Answerer& work,
                                         RequestFile& requests, AnswerFile& answers);

/// Answers as they are done, found by ids, of which every request needs its own: Error(kUsage).
std::unique_ptr<BatchPlan> plan_as_done(const BatchOptions& options, const Answerer& work,
                                        RequestFile& requests, AnswerFile& answers);

/// Whether `path` is a regular file.
bool is_file(const std::string& path);

[[noreturn]] void refuse_line(const BatchOptions& options, int number, const std::string& what);

/// Refuses `item`, whose answer `there` (an error, if `failed`) is another one's.
[[noreturn]] void refuse_changed(const BatchOptions& options, const BatchItem& item, bool failed,
                                 const std::string& there);

/// Refuses a --seed that is not the one of `standing`.
void check_seed(const BatchOptions& options, const BatchStanding& standing,
                const AnswerFile& answers);

}  // namespace cli
