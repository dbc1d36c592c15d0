#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>

#include "answer_file.h"
#include "answerer.h"
#include "output_file.h"

namespace cli {

namespace {

using lapidary::Error;
using lapidary::ErrorCode;

// Where a batch stands: what has been answered by earlier runs, and the seed of line 0, from which
// those of all lines without one of their own follow.
struct Standing {
  std::size_t failed = 0;
  std::optional<std::uint64_t> seed;
};

[[noreturn]] void refuse_line(const BatchOptions& options, int number, const std::string& what) {
  throw Error(ErrorCode::kUsage, options.in + " line " + std::to_string(number) + " " + what);
}

// Whether `record` answers `item`: throws Error(kUsage) where it does not, with the way out.
void check_record(const BatchOptions& options, const AnswerRecord& record, const BatchItem& item) {
  if (item.request.id != record.id) {
    refuse_line(options, item.request.line,
                "has id " + quoted(item.request.id) + ", but " + options.out + " answers " +
                    quoted(record.id) +
                    " there: it belongs to another input; use another file for the answers");
  }
  if (record.digest.empty() || record.digest == item.digest) return;
  if (!record.failed) {
    refuse_line(options, item.request.line,
                "or an option or the model has changed since " + options.out +
                    " answered it; use another file for the answers");
  }
  if (!options.retry_failed) {
    refuse_line(options, item.request.line,
                "has changed since it was answered by an error; --retry-failed answers such lines "
                "again");
  }
}

// Moves `requests` past those that `answers` has, and checks that they are the same.
Standing pass_answered(RequestFile& requests, const AnswerFile& answers, const Answerer& work,
                       const BatchOptions& options) {
  Standing standing;
  std::string line;
  std::uint64_t index = 0;
  for (const AnswerRecord& record : answers.records()) {
    if (!requests.next(line)) {
      throw Error(ErrorCode::kUsage,
                  answers.path() + " has " + counted(answers.records().size(), "line") +
                      ", more than " + options.in + ": it belongs to another input");
    }
    const BatchItem item = work.read(requests, line);
    check_record(options, record, item);
    standing.failed += record.failed ? 1 : 0;
    if (record.seed && !item.wrong && !item.request.sampling.seed)
      standing.seed = *record.seed - index;
    ++index;
  }
  if (standing.seed && options.sampling.seed && *standing.seed != *options.sampling.seed) {
    throw Error(ErrorCode::kUsage, answers.path() + " was begun with --seed " +
                                       std::to_string(*standing.seed) +
                                       "; go on with that, or use another file for the answers");
  }
  return standing;
}

bool is_file(const std::string& path) {
  std::error_code none;
  return path != "-" && std::filesystem::is_regular_file(path, none);
}

// A batch with pictures and no vision file would fail on every line that has one: better said at
// once. A pipe cannot be read ahead.
void check_vision(const BatchOptions& options, const lapidary::Model& model, const Answerer& work,
                  int after_line) {
  if (model.vision() != nullptr || !is_file(options.in)) return;
  RequestFile requests(options.in);
  for (std::string line; requests.next(line);) {
    if (requests.number() <= after_line || line.find("\"image") == std::string::npos) continue;
    if (work.read(requests, line).request.has_pictures())
      refuse_line(options, requests.number(), std::string("has pictures, but ") + kNoVisionFile);
  }
}

// What has been done, for a person: a bar, or a line now and then where standard error is a file.
class BatchProgress {
 public:
  explicit BatchProgress(bool quiet)
      : bar_("batch", quiet), lines_(!quiet && isatty(STDERR_FILENO) == 0), start_(now()) {}

  // `done` of `total` bytes of requests, `lines` answered, all by this run.
  void update(std::uint64_t done, std::uint64_t total, std::size_t lines) {
    bar_.update(done, total);
    constexpr double kSeconds = 10;
    if (!lines_ || now() - last_ < kSeconds) return;
    last_ = now();
    std::string text = "batch: " + counted(lines, "line") + format(" in %.0f s", last_ - start_);
    if (total > 0)
      text += format(", %.0f %%", 100 * static_cast<double>(done) / static_cast<double>(total));
    write_all(STDERR_FILENO, text + "\n");
  }
  void finish() { bar_.finish(); }

 private:
  ProgressBar bar_;
  bool lines_;
  double start_;
  double last_ = start_;
};

// Lines that --retry-failed has answered already when it was stopped, if they still fit.
std::unique_ptr<AnswerFile> open_retried(const BatchOptions& options, const AnswerFile& answers,
                                         const Answerer& work) {
  const std::string path = options.out + ".retry";
  auto retried = std::make_unique<AnswerFile>(path);
  if (retried->records().empty()) return retried;
  try {
    RequestFile requests(options.in);
    pass_answered(requests, *retried, work, options);
    if (retried->records().size() <= answers.records().size()) return retried;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kUsage) throw;
  }
  retried.reset();
  std::remove(path.c_str());
  return std::make_unique<AnswerFile>(path);
}

class BatchRun {
 public:
  BatchRun(const BatchOptions& options, const lapidary::Model& model, RequestFile& requests,
           AnswerFile& answers)
      : options_(options),
        requests_(requests),
        answers_(answers),
        work_(options, model),
        progress_(options.model.quiet) {
    const bool retry =
        options.retry_failed && std::ranges::any_of(answers.records(), &AnswerRecord::failed);
    Standing standing;
    if (retry) {
      RequestFile first(options.in);
      standing = pass_answered(first, answers, work_, options);
      standing.failed = 0;
      retried_ = open_retried(options, answers, work_);
      pass_answered(requests, *retried_, work_, options);
    } else {
      standing = pass_answered(requests, answers, work_, options);
    }
    failed_ = standing.failed;
    seed_ = standing.seed.value_or(options.sampling.seed_or_random());
    check_vision(options, model, work_, requests.number());
  }

  int run() {
    const double start = now();
    const std::uint64_t before = requests_.read();
    std::size_t index = out().records().size();
    replace_if_whole(index);
    for (std::string line; requests_.next(line);) {
      const bool kept = retried_ != nullptr && index < answers_.records().size() &&
                        !answers_.records()[index].failed;
      out().write(kept ? answers_.line(index) : answer(line, index));
      lines_ += kept ? 0 : 1;
      replace_if_whole(++index);
      progress_.update(requests_.read() - before,
                       requests_.bytes() - std::min(before, requests_.bytes()), lines_);
      if (interrupted) throw Error(ErrorCode::kInterrupted, "interrupted");
    }
    progress_.finish();
    if (!options_.model.quiet) print_statistics(now() - start);
    return failed_ > 0 ? 1 : 0;
  }

 private:
  AnswerFile& out() { return retried_ ? *retried_ : answers_; }

  std::string answer(const std::string& line, std::size_t index) {
    const BatchItem item = work_.read(requests_, line);
    bool failed = false;
    std::string text =
        work_.answer(item, item.request.sampling.seed.value_or(seed_ + index), failed);
    failed_ += failed ? 1 : 0;
    return text;
  }

  // Every line that was there is in the new file.
  void replace_if_whole(std::size_t written) {
    if (retried_ && written == answers_.records().size()) retried_->replace(answers_.path());
  }

  void print_statistics(double seconds) const {
    const std::string guesses = describe_guesses(work_.guesses());
    std::string text = counted(lines_, "line") +
                       format(" in %.2f s (%zu were there), ", seconds, answers_.records().size());
    text += format("%ld tokens drawn (%.1f t/s), ", work_.drawn(),
                   rate(static_cast<double>(work_.drawn()), seconds));
    text += counted(failed_, "line") + " failed, seed " + std::to_string(seed_);
    if (!guesses.empty()) text += ", " + guesses;
    write_all(STDERR_FILENO, text + "\n");
  }

  const BatchOptions& options_;
  RequestFile& requests_;
  AnswerFile& answers_;
  std::unique_ptr<AnswerFile> retried_;
  Answerer work_;
  BatchProgress progress_;
  std::uint64_t seed_ = 0;
  std::size_t failed_ = 0;
  std::size_t lines_ = 0;  // Answered by this run.
};

int batch(const BatchOptions& options) {
  RequestFile requests(options.in);
  std::error_code none;
  if (std::filesystem::is_directory(options.in, none))
    throw Error(ErrorCode::kFile, "cannot read " + options.in + ": Is a directory");
  if (!options.image_root.empty() && !std::filesystem::is_directory(options.image_root, none))
    throw Error(ErrorCode::kUsage, "--image-root: " + options.image_root + " is no folder");
  refuse_same_file(options.out, options.in, "the requests");
  if (options.retry_failed && !(is_file(options.in) && is_file(options.out))) {
    throw Error(ErrorCode::kUsage,
                "--retry-failed needs a file of requests and one of answers, not a pipe");
  }
  AnswerFile answers(options.out);
  const lapidary::Model model = load_model(options.model, options.images, Vision::kIfThere, {},
                                           true, options.speculation.draft_bytes(options.model));
  hold_interrupts(Interrupts::kStop);
  try {
    return BatchRun(options, model, requests, answers).run();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInterrupted) throw;
    throw Error(ErrorCode::kInterrupted, "interrupted; run the same command to go on");
  }
}

}  // namespace

void add_batch(CLI::App& app, Run& run) {
  CLI::App& command =
      add_command(app, "batch",
                  "answer a file of prompts, one JSON object a line; goes on where it was stopped");
  const auto options = std::make_shared<BatchOptions>();
  add_model_flags(command, options->model);
  add_sampling_flags(command, options->sampling);
  add_chat_flag(command, options->chat);
  add_speculation_flags(command, options->speculation);
  add_view_flags(command, options->images);
  add_positional(
      command, "in", options->in,
      "requests: {id, prompt or messages, …} or OpenAI's batch format; -: standard input")
      .show_type("FILE")
      .required();
  add_option(command, "-o,--out", options->out,
             "answers, in the order of the requests; -: standard output")
      .show_type("FILE")
      .required();
  add_option(command, "--image-root", options->image_root,
             "folder that the pictures of requests must lie in; names are looked up there")
      .show_type("FOLDER");
  add_flag(command, "--retry-failed", options->retry_failed,
           "answer the lines again that were answered by an error");
  when_chosen(command, run, [options] { return batch(*options); });
}

}  // namespace cli
