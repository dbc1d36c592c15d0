#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "answer_file.h"
#include "answerer.h"
#include "commands.h"
#include "output_file.h"
#include "terminal.h"
#include "text.h"

namespace cli {

namespace {

using lapidary::Error;
using lapidary::ErrorCode;

// Where a batch stands: what has been answered by earlier runs, and the seed of line 0, from which
// those of all lines without one of their own follow.
struct Standing {
  std::size_t failed = 0;
  std::optional<std::uint64_t> seed;
  std::vector<std::uint64_t> bytes;  // Of each request.
};

[[noreturn]] void refuse_line(const BatchOptions& options, int number, const std::string& what) {
  throw Error(ErrorCode::kUsage, options.in + " line " + std::to_string(number) + " " + what);
}

// Throws Error(kUsage), with the way out, where line `index` of `answers` is none that `item` can
// have there.
void check_record(const BatchOptions& options, const AnswerFile& answers, std::size_t index,
                  const BatchItem& item) {
  const AnswerRecord& record = answers.records()[index];
  const std::string there = answers.path() + " line " + std::to_string(index + 1);
  // A line that could not be read had no id; since then it may have been repaired.
  const bool other_id = item.request.id != record.id;
  if (other_id && !(record.failed && record.id.is_null())) {
    refuse_line(options, item.request.line,
                "has id " + quoted(item.request.id) + ", but " + there + " answers " +
                    quoted(record.id) +
                    ": it belongs to another input; use another file for the answers");
  }
  const bool same = record.digest.empty() ? !other_id : record.digest == item.digest;
  if (same || (record.failed && options.retry_failed)) return;
  refuse_line(options, item.request.line,
              record.failed
                  ? "has changed since it was answered by an error in " + there +
                        "; --retry-failed answers such lines again"
                  : "is not what " + there +
                        " answers: the request, an option or the model has changed; go on with "
                        "what it was begun with, or use another file for the answers");
}

// Moves `requests` past those that `answers` has, and checks that they are the same.
Standing pass_answered(RequestFile& requests, const AnswerFile& answers, const Answerer& work,
                       const BatchOptions& options) {
  Standing standing;
  std::string line;
  for (std::size_t index = 0; index < answers.records().size(); ++index) {
    const AnswerRecord& record = answers.records()[index];
    const std::uint64_t begin = requests.read();
    if (!requests.next(line)) {
      throw Error(ErrorCode::kUsage,
                  answers.path() + " has " + counted(answers.records().size(), "line") +
                      ", more than " + options.in + ": it belongs to another input");
    }
    const BatchItem item = work.read(requests, line);
    check_record(options, answers, index, item);
    standing.failed += record.failed ? 1 : 0;
    standing.bytes.push_back(requests.read() - begin);
    if (record.seed && !item.wrong && !item.request.sampling.seed)
      standing.seed = *record.seed - index;
  }
  if (standing.seed && options.sampling.seed && *standing.seed != *options.sampling.seed) {
    throw Error(ErrorCode::kUsage, answers.path() + " was begun with --seed " +
                                       std::to_string(*standing.seed) +
                                       "; go on with that, or use another file for the answers");
  }
  return standing;
}

bool exists(const std::string& path) {
  std::error_code none;
  return std::filesystem::exists(path, none);
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
  requests.set_most_bytes(work.most_line_bytes());
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

  // `done` of `total` bytes of requests (0: not known), `lines` answered, all by this run.
  void update(std::uint64_t done, std::uint64_t total, std::size_t lines) {
    bar_.update(done, total);
    constexpr double kSeconds = 10;
    if (!lines_ || now() - last_ < kSeconds) return;
    last_ = now();
    const double all =
        rate(static_cast<double>(lines) * static_cast<double>(total), static_cast<double>(done));
    std::string text = "batch: ";
    if (total > 0) text += std::to_string(lines) + " of about ";
    text += counted(total > 0 ? static_cast<std::size_t>(std::llround(all)) : lines, "line");
    const double seconds = last_ - start_;
    text += format(" in %.0f s, %.2f a second", seconds, rate(static_cast<double>(lines), seconds));
    write_all(STDERR_FILENO, text + "\n");
  }
  void finish() { bar_.finish(); }

 private:
  ProgressBar bar_;
  bool lines_;
  double start_;
  double last_ = start_;
};

class BatchRun {
 public:
  BatchRun(const BatchOptions& options, const lapidary::Model& model, RequestFile& requests,
           AnswerFile& answers)
      : options_(options),
        requests_(requests),
        answers_(answers),
        work_(options, model),
        progress_(options.model.quiet) {
    requests_.set_most_bytes(work_.most_line_bytes());
    const Standing standing = begin();
    const std::uint64_t no_work = requests.read() + kept_bytes_;
    work_bytes_ = requests.bytes() - std::min(requests.bytes(), no_work);
    failed_ = standing.failed;
    seed_ = standing.seed.value_or(options.sampling.seed_or_random());
    check_vision(options, model, work_, requests.number());
  }

  int run() {
    const double start = now();
    std::size_t index = out().records().size();
    replace_if_whole(index);
    for (std::string line; next(line);) {
      out().write(kept(index) ? answers_.line(index) : answer(line, index));
      replace_if_whole(++index);
      progress_.update(done_bytes_, work_bytes_, lines_);
    }
    progress_.finish();
    if (!options_.model.quiet) print_statistics(now() - start);
    return failed_ > 0 ? 1 : 0;
  }

 private:
  // Moves past what is answered, and opens what --retry-failed writes.
  Standing begin() {
    const bool retry =
        options_.retry_failed && std::ranges::any_of(answers_.records(), &AnswerRecord::failed);
    if (!retry) return pass_answered(requests_, answers_, work_, options_);
    RequestFile again(options_.in);
    again.set_most_bytes(work_.most_line_bytes());
    const Standing old = pass_answered(again, answers_, work_, options_);
    Standing standing = begin_retry(old);
    for (std::size_t i = retried_->records().size(); i < old.bytes.size(); ++i)
      kept_bytes_ += kept(i) ? old.bytes[i] : 0;
    return standing;
  }

  // A retry that was stopped goes on. What it left may not fit the answers any more, and is not
  // ours to throw away.
  Standing begin_retry(const Standing& old) {
    place_ = std::filesystem::canonical(answers_.path()).string();
    retried_ = std::make_unique<AnswerFile>(place_ + ".retry", answers_.mode());
    try {
      Standing standing = pass_answered(requests_, *retried_, work_, options_);
      check_retried(standing, old);
      if (!standing.seed) standing.seed = old.seed;
      return standing;
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kUsage) throw;
      throw Error(ErrorCode::kUsage, error.what() + ("; or remove " + retried_->path()) +
                                         ", which an earlier --retry-failed left, to begin again");
    }
  }

  void check_retried(const Standing& standing, const Standing& old) const {
    const std::vector<AnswerRecord>& theirs = retried_->records();
    const bool other_seed = standing.seed && old.seed && *standing.seed != *old.seed;
    bool fits = !other_seed && theirs.size() <= answers_.records().size();
    for (std::size_t i = 0; fits && i < theirs.size(); ++i)
      fits = answers_.records()[i].failed || !theirs[i].failed;
    if (!fits)
      throw Error(ErrorCode::kUsage, answers_.path() + " was written anew since it was retried");
  }

  bool next(std::string& line) {
    if (interrupted) throw Error(ErrorCode::kInterrupted, "interrupted");
    const std::uint64_t before = requests_.read();
    const bool found = requests_.next(line);
    line_bytes_ = requests_.read() - before;
    return found;
  }

  // Whether a retry takes the line over that is there.
  bool kept(std::size_t index) const {
    return retried_ != nullptr && index < answers_.records().size() &&
           !answers_.records()[index].failed;
  }

  AnswerFile& out() { return retried_ ? *retried_ : answers_; }

  std::string answer(const std::string& line, std::size_t index) {
    const BatchItem item = work_.read(requests_, line);
    bool failed = false;
    std::string text =
        work_.answer(item, item.request.sampling.seed.value_or(seed_ + index), failed);
    failed_ += failed ? 1 : 0;
    ++lines_;
    done_bytes_ += line_bytes_;
    return text;
  }

  // Every line that was there is in the new file.
  void replace_if_whole(std::size_t written) {
    if (retried_ && written == answers_.records().size()) retried_->replace(place_);
  }

  void print_statistics(double seconds) const {
    const std::string guesses = describe_guesses(work_.guesses());
    std::string text = counted(lines_, "line") +
                       format(" in %.2f s (%zu were there), ", seconds, answers_.records().size());
    text += counted(static_cast<std::size_t>(work_.drawn()), "token") +
            format(" drawn (%.1f t/s), ", rate(static_cast<double>(work_.drawn()), seconds));
    text += counted(failed_, "line") + " failed, seed " + std::to_string(seed_);
    if (!guesses.empty()) text += ", " + guesses;
    write_all(STDERR_FILENO, text + "\n");
  }

  const BatchOptions& options_;
  RequestFile& requests_;
  AnswerFile& answers_;
  std::unique_ptr<AnswerFile> retried_;
  std::string place_;  // Where retried_ goes in the end.
  Answerer work_;
  BatchProgress progress_;
  std::uint64_t seed_ = 0;
  std::size_t failed_ = 0;
  std::uint64_t line_bytes_ = 0;  // Of the request read last.
  std::uint64_t kept_bytes_ = 0;  // Of requests to come whose answers are kept.
  std::uint64_t work_bytes_ = 0;  // Of those that this run answers,
  std::uint64_t done_bytes_ = 0;  // and of those that it has answered,
  std::size_t lines_ = 0;         // and their number.
};

constexpr const char* kGoOn = "interrupted; run the same command to go on";

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
  const bool goes_on = options.out != "-" && (is_file(options.out) || !exists(options.out));
  if (goes_on) say_when_interrupted(kGoOn);
  AnswerFile answers(options.out);
  const lapidary::Model model = load_model(options.model, options.images, Vision::kIfThere, {},
                                           true, options.speculation.draft_bytes(options.model));
  hold_interrupts(Interrupts::kStop);
  try {
    return BatchRun(options, model, requests, answers).run();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInterrupted || !goes_on) throw;
    throw Error(ErrorCode::kInterrupted, kGoOn);
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
