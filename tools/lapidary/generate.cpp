#include <unistd.h>

#include <memory>

#include "chat_flag.h"
#include "commands.h"
#include "json.h"
#include "logprob_json.h"
#include "pictures.h"
#include "sampling_flags.h"
#include "score_choices.h"
#include "speculation_flags.h"
#include "terminal.h"
#include "text.h"
#include "text_file.h"

namespace cli {

namespace {

using lapidary::Error;
using lapidary::ErrorCode;
using lapidary::TokenId;

struct Options {
  ModelFlags model;
  SamplingFlags sampling;
  ChatFlag chat;
  SpeculationFlags speculation;
  ImageFlags images;
  std::string given_prompt;  // As an argument,
  Option given;
  std::string named_prompt;  // and with -p.
  Option named;
  std::string file;
  bool json = false;
  int logprobs = -1;
  std::string choices;  // A file of continuations to score instead; empty: none.
};

struct Times {
  double load = 0;
  double image = 0;
  double prefill = 0;
  double decode = 0;
};

// -p and -f, in this order, a line apart; standard input only where neither was given, so that a
// loop over a list that calls this program keeps its list.
std::string gather_prompt(const Options& options) {
  const bool given = options.given.given() || options.named.given() || !options.file.empty();
  if (options.given.given() && options.named.typed())
    throw Error(ErrorCode::kUsage, "two prompts: one with -p and one without; give one of them");
  if (options.choices == "-" && (!given || options.file == "-"))
    throw Error(ErrorCode::kUsage, "standard input cannot be both the prompt and the choices");
  std::string prompt = options.given.given() ? options.given_prompt : options.named_prompt;
  std::string text;
  if (!options.file.empty()) {
    text = prompt_text(read_text_file(options.file));
  } else if (!given && isatty(STDIN_FILENO) == 0) {
    text = prompt_text(read_standard_input());
  }
  if (!prompt.empty() && !text.empty()) prompt += '\n';
  prompt += text;
  if (prompt.empty() && options.images.images.empty())
    throw Error(ErrorCode::kUsage,
                "the prompt is empty: give it as an argument, with -f FILE or on standard input");
  require_utf8(prompt, "the prompt");
  return prompt;
}

// With pictures that are not encoded yet, in front of the text.
lapidary::Prompt make_prompt(const Options& options, const lapidary::Model& model,
                             const std::vector<Picture>& pictures, const std::string& text) {
  std::vector<lapidary::ContentPart> parts;
  parts.reserve(pictures.size() + 1);
  for (const Picture& picture : pictures) parts.push_back({{}, unencoded(picture, model)});
  parts.push_back({text});
  if (!options.chat.chosen(model)) return lapidary::text_prompt(model.tokenizer(), parts);
  options.chat.tell(model, options.model.quiet);
  if (!model.info().instruction_tuned) {
    warn(options.model.quiet,
         "this is a base model without chat training; --no-chat completes plain text");
  }
  const lapidary::Message user{"user", {}, std::move(parts)};
  return lapidary::chat_prompt(model.tokenizer(), {&user, 1}, options.chat.kind(model));
}

// Of each token, as a chat of OpenAI's has them, with its id.
Json logprobs_of(const lapidary::Tokenizer& tokenizer, const lapidary::Completion& completion) {
  Json list = chat_logprobs(tokenizer, completion);
  for (std::size_t i = 0; i < list.size(); ++i) list[i]["id"] = completion.ids[i];
  return list;
}

void print_json(Output& output, const std::vector<TokenId>& prompt,
                const lapidary::Completion& completion, const Json& logprobs, std::uint64_t seed,
                const Times& times) {
  const double drawn = static_cast<double>(completion.ids.size());
  const double read = static_cast<double>(prompt.size());
  Json object;
  object["text"] = completion.text;
  object["ids"] = completion.ids;
  object["prompt_ids"] = prompt;
  object["finish_reason"] = finish_name(completion.finish_reason);
  if (!logprobs.is_null()) object["logprobs"] = logprobs;
  object["seed"] = seed;
  object["usage"] = {{"prompt_tokens", prompt.size()},
                     {"completion_tokens", completion.ids.size()},
                     {"cached_tokens", completion.usage.cached_tokens}};
  object["timings"] = {{"load_seconds", times.load},
                       {"image_seconds", times.image},
                       {"prefill_seconds", times.prefill},
                       {"decode_seconds", times.decode},
                       {"drafted_tokens", completion.usage.drafted_tokens},
                       {"accepted_tokens", completion.usage.accepted_tokens},
                       {"prefill_tokens_per_second", rate(read, times.prefill)},
                       {"decode_tokens_per_second", rate(drawn, times.decode)}};
  output.write(to_line(object) + "\n");
}

void print_statistics(std::size_t prompt, const lapidary::Completion& completion,
                      std::uint64_t seed, const Times& times, const PictureEncoder& pictures) {
  const std::size_t drawn = completion.ids.size();
  std::string text = format("load %.2f s; ", times.load);
  if (pictures.views() > 0) {
    const auto encoded = static_cast<std::size_t>(pictures.views() - pictures.cached());
    text += format("%s encoded in %.2f s (%d were in the cache); ",
                   counted(encoded, "view").c_str(), times.image, pictures.cached());
  }
  text += format("prefill %s in %.2f s (%.1f t/s); decode %s in %.2f s (%.1f t/s); %s",
                 counted(prompt, "token").c_str(), times.prefill,
                 rate(static_cast<double>(prompt), times.prefill), counted(drawn, "token").c_str(),
                 times.decode, rate(static_cast<double>(drawn), times.decode),
                 finish_name(completion.finish_reason));
  const std::string guesses = describe_guesses(completion.usage);
  write_all(STDERR_FILENO, text + (guesses.empty() ? "" : "; " + guesses) + "; seed " +
                               std::to_string(seed) + "\n");
}

// Scores the choices behind the prompt, which is computed.
int score(const Options& options, lapidary::Session& session, const lapidary::Prompt& prompt,
          const std::vector<std::string>& choices, const std::vector<std::vector<TokenId>>& ids,
          const Times& times) {
  const double start = now();
  const std::vector<lapidary::Score> scores = session.score(ids, &interrupted);
  const double seconds = now() - start;
  Output output;
  if (options.json) {
    Json object;
    object["choices"] = choices_json(choices, scores);
    object["best"] = best_choice(scores);
    object["prompt_ids"] = prompt.ids;
    object["timings"] = {{"load_seconds", times.load},
                         {"image_seconds", times.image},
                         {"prefill_seconds", times.prefill},
                         {"score_seconds", seconds}};
    output.write(to_line(object) + "\n");
  } else {
    print_choices(output, choices, scores);
  }
  output.check();
  if (options.model.quiet) return 0;
  write_all(STDERR_FILENO,
            format("load %.2f s; prefill %s in %.2f s; %s scored in %.3f s\n", times.load,
                   counted(prompt.ids.size(), "token").c_str(), times.prefill,
                   counted(scores.size(), "choice").c_str(), seconds));
  return 0;
}

int generate(const Options& options) {
  if (options.logprobs >= 0 && !options.json)
    throw Error(ErrorCode::kUsage, "--logprobs needs --json, which has a place for them");
  const std::string text = gather_prompt(options);
  const std::vector<std::string> choices =
      options.choices.empty() ? std::vector<std::string>() : read_choices(options.choices);
  const std::vector<Picture> pictures = read_pictures(options.images, options.model.memory_limit);
  Times times;
  double start = now();
  const lapidary::Model model = load_model(
      options.model, options.images, pictures.empty() ? Vision::kIfGiven : Vision::kNeeded, {},
      true, decoded_bytes(pictures) + options.speculation.draft_bytes(options.model));
  lapidary::Session session(model, options.speculation.session(options.model, model));
  check_text(session, text.size());
  lapidary::Prompt prompt = make_prompt(options, model, pictures, text);
  hold_interrupts(Interrupts::kStop);
  times.load = now() - start;

  PictureEncoder encoder(model, options.model, options.images, session.memory_bytes());
  check_room(session, prompt.ids.size());
  const std::vector<std::vector<TokenId>> choice_tokens =
      choice_ids(model.tokenizer(), session.context(), choices);
  check_choices(session.context(), prompt.ids.size(), choice_tokens);
  if (!pictures.empty()) {
    encoder.fill(prompt, pictures);
    times.load += encoder.load_seconds();
    times.image = encoder.seconds();
  }

  start = now();
  {
    ProgressBar bar("reading the prompt", options.model.quiet);
    session.append(prompt, bar.callback(), &interrupted);
  }
  times.prefill = now() - start;

  if (!choices.empty()) return score(options, session, prompt, choices, choice_tokens, times);

  Output output;
  start = now();
  lapidary::OnText on_text;
  if (!options.json) on_text = [&](std::string_view piece) { return output.write(piece); };
  const std::uint64_t seed = options.sampling.seed_or_random();
  lapidary::GenerateOptions wanted = options.sampling.options(seed);
  if (options.chat.chosen(model)) options.chat.stop_at_turns(model, wanted.stop);
  options.speculation.apply(wanted);
  wanted.logprobs = options.logprobs;
  const lapidary::Completion completion = session.generate(wanted, on_text);
  times.decode = now() - start;

  if (options.json) {
    const Json logprobs =
        options.logprobs < 0 ? Json(nullptr) : logprobs_of(model.tokenizer(), completion);
    print_json(output, prompt.ids, completion, logprobs, seed, times);
  } else {
    output.end_line();
  }
  output.check();
  if (!options.model.quiet) print_statistics(prompt.ids.size(), completion, seed, times, encoder);
  return completion.finish_reason == lapidary::FinishReason::kCancelled ? 130 : 0;
}

}  // namespace

void add_generate(CLI::App& app, Run& run) {
  CLI::App& command = add_command(app, "generate", "complete a prompt");
  const auto options = std::make_shared<Options>();
  add_model_flags(command, options->model);
  add_sampling_flags(command, options->sampling);
  add_chat_flag(command, options->chat);
  add_speculation_flags(command, options->speculation);
  add_image_flags(command, options->images);
  options->given = add_positional(command, "text", options->given_prompt,
                                  "the prompt (without any: what comes on standard input)");
  options->named =
      add_option(command, "-p,--prompt", options->named_prompt, "the same as an option");
  add_option(command, "-f,--file", options->file,
             "file to read the prompt from, behind that of -p; -: standard input")
      .show_type("FILE");
  add_flag(command, "--json", options->json, "print one JSON object: text, ids, usage and timings");
  const Option logprobs =
      add_option(command, "--logprobs", options->logprobs,
                 "with --json: each token's log-probability, and so many of the most probable; "
                 "-1: none")
          .range(-1, lapidary::kMostLogprobs);
  add_option(command, "--choices", options->choices,
             "score the continuations in this file, one a line, instead of drawing; -: standard "
             "input")
      .show_type("FILE")
      .excludes(logprobs);
  when_chosen(command, run, [options] { return generate(*options); });
}

}  // namespace cli
