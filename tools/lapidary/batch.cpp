#include <filesystem>
#include <memory>

#include "answer_file.h"
#include "batch_run.h"
#include "commands.h"
#include "output_file.h"
#include "terminal.h"

namespace cli {

namespace {

using lapidary::Error;
using lapidary::ErrorCode;

bool exists(const std::string& path) {
  std::error_code none;
  return std::filesystem::exists(path, none);
}

constexpr const char* kGoOn = "interrupted; run the same command to go on";

// Those of a whole batch: its parts cannot agree on a random seed.
BatchOptions shared_options(BatchOptions options) {
  const std::optional<Shard> shard = find_shard(options.shard);
  options.out = name_shard(options.out, shard);
  options.share.shard = shard.value_or(Shard{});
  const bool part = shard || options.share.numbered;
  if (part && !options.sampling.seed) options.sampling.seed = 0;
  if (const std::string variable = shard_variable(); !part && !variable.empty())
    warn(options.model.quiet,
         variable + " is set, and yet all requests are answered; --shard auto takes a part");
  return options;
}

int batch(const BatchOptions& given) {
  const BatchOptions options = shared_options(given);
  RequestFile requests(options.in, options.share);
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
  const lapidary::Model model = load_model(options.model, options.images, Vision::kIfThere);
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
                  "answer a file of prompts, one JSON object a line, many at a time; goes on where "
                  "it was stopped");
  const auto options = std::make_shared<BatchOptions>();
  add_model_flags(command, options->model);
  add_prefix_flags(command, options->model);
  add_sampling_flags(command, options->sampling);
  add_chat_flag(command, options->chat);
  add_speculation_mode(command, options->speculation);
  add_view_flags(command, options->images);
  add_positional(
      command, "in", options->in,
      "requests: {id, prompt or messages, …} or OpenAI's batch format; -: standard input")
      .show_type("FILE")
      .required();
  add_option(command, "-o,--out", options->out,
             "answers, a line each; -: standard output; {shard} in it becomes the shard: 3-of-8")
      .show_type("FILE")
      .required();
  add_option(command, "--order", options->order,
             "of the answers: that of the requests, or as they are done, each with its id")
      .one_of({"input", "done"})
      .show_default(options->order);
  add_option(command, "--parallel", options->parallel,
             "most answers that are drawn together; never changes one; 0: as many as pay")
      .range(0, 1024);
  add_option(command, "--image-root", options->image_root,
             "folder that the pictures of requests must lie in; names are looked up there")
      .show_type("FOLDER");
  const Option shard = add_shard_flag(command, options->shard);
  add_flag(command, "--numbered", options->share.numbered,
           "in front of each request stands a line with its number and place in the file that a "
           "program deals out, as \"18 17\"; without --seed the seed is then 0")
      .excludes(shard);
  add_flag(command, "--retry-failed", options->retry_failed,
           "answer the lines again that were answered by an error");
  when_chosen(command, run, [options] { return batch(*options); });
}

}  // namespace cli
