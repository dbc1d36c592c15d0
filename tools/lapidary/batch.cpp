#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>

#include "batch_request.h"
#include "common.h"
#include "speculation_flags.h"

namespace cli {

namespace {

using lapidary::Error;
using lapidary::ErrorCode;

struct Options {
  ModelFlags model;
  SamplingFlags sampling;
  ChatFlag chat;
  SpeculationFlags speculation;
  ImageFlags images;
  std::string in;
  std::string out;
};

// The file of answers. Opening it cuts a last line that a kill left unfinished; what is complete
// stays.
class AnswerFile {
 public:
  explicit AnswerFile(std::string path) : path_(std::move(path)) {
    file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    // A pipe or a terminal can be written but not read: nothing to resume there.
    if (file_ < 0) file_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (file_ < 0) fail(ErrorCode::kFile, "cannot write ");
    struct stat status = {};
    if (fstat(file_, &status) != 0 || !S_ISREG(status.st_mode)) return;
    if (flock(file_, LOCK_EX | LOCK_NB) != 0) {
      ::close(file_);
      throw Error(ErrorCode::kFailed, path_ + ": another batch is writing this file");
    }
    recover();
  }
  ~AnswerFile() { ::close(file_); }
  AnswerFile(const AnswerFile&) = delete;
  AnswerFile& operator=(const AnswerFile&) = delete;

  int file() const { return file_; }
  const std::string& path() const { return path_; }

  // Ids and failures of the lines that were there, in order.
  struct Done {
    Json id;
    bool failed;
  };
  const std::vector<Done>& done() const { return done_; }

  void write(const std::string& line) {
    const int error = write_all(file_, line);
    if (error == EPIPE) throw ClosedPipe{};
    errno = error;
    if (error != 0) fail(ErrorCode::kFailed, "cannot write ");
  }

 private:
  [[noreturn]] void fail(ErrorCode code, const char* what) const {
    const std::string reason = std::strerror(errno);
    throw Error(code, what + path_ + ": " + reason);
  }

  void recover() {
    std::ifstream lines(path_);
    std::string line;
    off_t complete = 0;
    while (std::getline(lines, line) && !lines.eof()) {
      complete += static_cast<off_t>(line.size()) + 1;
      const Json object = Json::parse(line, nullptr, false);
      if (!object.is_object()) {
        throw Error(ErrorCode::kFile,
                    path_ + " line " + std::to_string(done_.size() + 1) +
                        ": expected a line that a batch wrote, found no JSON object");
      }
      done_.push_back({line_id(object), object.contains("error") && !object["error"].is_null()});
    }
    if (lines.bad()) fail(ErrorCode::kFile, "cannot read ");
    if (ftruncate(file_, complete) != 0) fail(ErrorCode::kFailed, "cannot cut ");
  }

  std::string path_;
  int file_ = -1;
  std::vector<Done> done_;
};

// Requests line by line; empty lines are no requests.
class RequestFile {
 public:
  explicit RequestFile(const std::string& path) : path_(path), lines_(path) {
    std::error_code none;
    if (!lines_) throw Error(ErrorCode::kFile, "cannot open " + path + ": " + std::strerror(errno));
    if (std::filesystem::is_directory(path, none))
      throw Error(ErrorCode::kFile, "cannot read " + path + ": Is a directory");
    const auto size = std::filesystem::file_size(path, none);
    bytes_ = none ? 0 : size;
  }

  bool next(std::string& line) {
    while (std::getline(lines_, line)) {
      ++number_;
      read_ += line.size() + 1;
      if (line.find_first_not_of(" \t\r") != std::string::npos) return true;
    }
    if (lines_.bad()) throw Error(ErrorCode::kFile, "cannot read " + path_);
    return false;
  }

  int number() const { return number_; }  // Of the last line, from 1.
  std::uint64_t read() const { return read_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  std::string path_;
  std::ifstream lines_;
  int number_ = 0;
  std::uint64_t read_ = 0;
  std::uint64_t bytes_ = 0;
};

RequestError request_error(const Error& error) {
  switch (error.code()) {
    case ErrorCode::kContext:
      return {"context_length_exceeded", error.what()};
    case ErrorCode::kUsage:
      return {"invalid_request", error.what()};
    case ErrorCode::kMemory:
      return {"out_of_memory", error.what()};
    default:
      return {"failed", error.what()};
  }
}

class Batch {
 public:
  Batch(const Options& options, const lapidary::Model& model)
      : options_(options),
        model_(model),
        session_(model, options.speculation.session(options.model, model)),
        encoder_(model, options.model, options.images, session_.memory_bytes()),
        folder_(std::filesystem::path(options.in).parent_path().string()),
        chat_(options.chat.chosen(model)) {
    name_ = model.info().name.empty()
                ? std::filesystem::path(options.model.model).filename().string()
                : model.info().name;
  }

  // The line to write for `line`; `failed` tells whether it is an error. Throws
  // Error(kInterrupted).
  std::string answer(const std::string& line, bool& failed) {
    BatchRequest request;
    failed = true;
    try {
      parse_request(line, options_.sampling, folder_, request);
      std::string text = answer_line(request, compute(request), name_);
      failed = false;
      return text;
    } catch (const RequestError& error) {
      return error_line(request, error);
    } catch (const Error& error) {
      if (error.code() == ErrorCode::kInterrupted) throw;
      return error_line(request, request_error(error));
    }
  }

  long drawn() const { return drawn_; }
  const lapidary::Usage& guesses() const { return guesses_; }

 private:
  // With pictures that are not encoded yet; they are put behind `pictures`.
  std::vector<lapidary::ContentPart> read_parts(const std::vector<RequestPart>& parts,
                                                std::vector<Picture>& pictures) const {
    std::vector<lapidary::ContentPart> content;
    for (const RequestPart& part : parts) {
      if (!part.picture) {
        content.push_back({part.text});
        continue;
      }
      if (model_.vision() == nullptr) throw RequestError{"unsupported", kNoVisionFile};
      pictures.push_back(read_picture(*part.picture, options_.images.options()));
      content.push_back({{}, unencoded(pictures.back(), model_)});
    }
    return content;
  }

  lapidary::Prompt make_prompt(const BatchRequest& request, std::vector<Picture>& pictures) const {
    const lapidary::Tokenizer& tokenizer = model_.tokenizer();
    std::vector<lapidary::Message> messages;
    for (const RequestMessage& message : request.messages)
      messages.push_back({message.role, {}, read_parts(message.parts, pictures)});
    if (!messages.empty()) return lapidary::chat_prompt(tokenizer, messages);
    std::vector<lapidary::ContentPart> parts = read_parts(request.prompt, pictures);
    if (request.raw || !chat_) return lapidary::text_prompt(tokenizer, parts);
    const lapidary::Message user{"user", {}, std::move(parts)};
    return lapidary::chat_prompt(tokenizer, {&user, 1});
  }

  BatchAnswer compute(const BatchRequest& request) {
    std::vector<Picture> pictures;
    lapidary::Prompt prompt = make_prompt(request, pictures);
    if (!pictures.empty()) {
      check_room(session_, prompt.ids.size());
      encoder_.fill(prompt, pictures);
    }
    session_.clear();
    session_.append(prompt, {}, &interrupted);
    lapidary::GenerateOptions wanted = request.sampling.options(request.sampling.seed_or_random());
    options_.speculation.apply(wanted);
    const lapidary::Completion completion = session_.generate(wanted);
    if (completion.finish_reason == lapidary::FinishReason::kCancelled) {
      throw Error(ErrorCode::kInterrupted, "interrupted");
    }
    drawn_ += static_cast<long>(completion.ids.size());
    guesses_.drafted_tokens += completion.usage.drafted_tokens;
    guesses_.accepted_tokens += completion.usage.accepted_tokens;
    return {completion.text, completion.finish_reason, static_cast<int>(prompt.ids.size()), 0,
            static_cast<int>(completion.ids.size())};
  }

  const Options& options_;
  const lapidary::Model& model_;
  lapidary::Session session_;
  PictureEncoder encoder_;
  std::string folder_;  // Of the requests, from which names of pictures go out.
  bool chat_;
  std::string name_;
  long drawn_ = 0;
  lapidary::Usage guesses_;  // Of all lines.
};

// Moves past the requests that are answered already; returns how many of those failed.
int skip_answered(RequestFile& requests, const AnswerFile& answers, const std::string& in) {
  int failed = 0;
  std::string line;
  for (const AnswerFile::Done& done : answers.done()) {
    if (!requests.next(line)) {
      throw Error(ErrorCode::kUsage,
                  answers.path() + " has " + std::to_string(answers.done().size()) +
                      " lines, more than " + in + ": it belongs to another input");
    }
    const Json object = Json::parse(line, nullptr, false);
    if (line_id(object) != done.id) {
      throw Error(ErrorCode::kUsage, in + " line " + std::to_string(requests.number()) +
                                         " has id " + to_line(line_id(object)) + ", but " +
                                         answers.path() + " answers " + to_line(done.id) +
                                         " there: it belongs to another input");
    }
    failed += done.failed ? 1 : 0;
  }
  return failed;
}

int batch(const Options& options) {
  RequestFile requests(options.in);
  std::error_code none;
  if (std::filesystem::equivalent(options.in, options.out, none)) {
    throw Error(ErrorCode::kUsage,
                "the answers cannot go into the file of the requests, " + options.in);
  }
  AnswerFile answers(options.out);
  int failed = skip_answered(requests, answers, options.in);
  const std::size_t before = answers.done().size();
  const lapidary::Model model = load_model(options.model, options.images, Vision::kIfThere);
  Batch work(options, model);
  hold_interrupts(Interrupts::kStop);

  const double start = now();
  std::size_t lines = 0;
  ProgressBar bar("batch", options.model.quiet);
  for (std::string line; requests.next(line); ++lines) {
    bool bad = false;
    answers.write(work.answer(line, bad));
    failed += bad ? 1 : 0;
    bar.update(requests.read(), requests.bytes());
    if (interrupted)
      throw Error(ErrorCode::kInterrupted, "interrupted; run the same command to go on");
  }
  bar.finish();
  if (!options.model.quiet) {
    const double seconds = now() - start;
    const std::string guesses = describe_guesses(work.guesses());
    write_all(STDERR_FILENO, format("%zu lines in %.2f s (%zu were there), %ld tokens drawn (%.1f "
                                    "t/s), %d lines failed%s\n",
                                    lines, seconds, before, work.drawn(),
                                    rate(static_cast<double>(work.drawn()), seconds), failed,
                                    guesses.empty() ? "" : (", " + guesses).c_str()));
  }
  return failed > 0 ? 1 : 0;
}

}  // namespace

void add_batch(CLI::App& app, Run& run) {
  CLI::App& command =
      add_command(app, "batch",
                  "answer a file of prompts, one JSON object a line; goes on where it was stopped");
  const auto options = std::make_shared<Options>();
  add_model_flags(command, options->model);
  add_sampling_flags(command, options->sampling);
  add_chat_flag(command, options->chat);
  add_speculation_flags(command, options->speculation);
  add_view_flags(command, options->images);
  add_positional(command, "in", options->in,
                 "requests: {id, prompt or messages, …} or OpenAI's batch format")
      .required();
  add_option(command, "-o,--out", options->out, "answers, in the order of the requests").required();
  when_chosen(command, run, [options] { return batch(*options); });
}

}  // namespace cli
