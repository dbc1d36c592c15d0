#include <unistd.h>

#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "chat_flag.h"
#include "commands.h"
#include "conversation.h"
#include "json.h"
#include "logprob_json.h"
#include "pictures.h"
#include "sampling_flags.h"
#include "score_choices.h"
#include "session_file.h"
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
  SessionFlags session;
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
lapidary::Prompt make_prompt(const Options& options, const ChatFlag& chat, bool in_turns,
                             const lapidary::Model& model, const std::vector<Picture>& pictures,
                             const std::string& text) {
  std::vector<lapidary::ContentPart> parts;
  parts.reserve(pictures.size() + 1);
  for (const Picture& picture : pictures) parts.push_back({{}, unencoded(picture, model)});
  parts.push_back({text});
  if (!in_turns) return lapidary::text_prompt(model.tokenizer(), parts);
  chat.tell(model, options.model.quiet);
  if (!model.info().instruction_tuned) {
    warn(options.model.quiet,
         "this is a base model without chat training; --no-chat completes plain text");
  }
  const lapidary::Message user{"user", {}, std::move(parts)};
  return lapidary::chat_prompt(model.tokenizer(), {&user, 1}, chat.kind(model));
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
  const double read = static_cast<double>(prompt.size()) - completion.usage.cached_tokens;
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
  const int cached = completion.usage.cached_tokens;
  const std::string there = cached > 0 ? format(" (%d were there)", cached) : "";
  text += format("prefill %s in %.2f s (%.1f t/s); decode %s in %.2f s (%.1f t/s); %s",
                 (counted(prompt, "token") + there).c_str(), times.prefill,
                 rate(static_cast<double>(prompt), times.prefill), counted(drawn, "token").c_str(),
                 times.decode, rate(static_cast<double>(drawn), times.decode),
                 finish_name(completion.finish_reason));
  const std::string guesses = describe_guesses(completion.usage);
  write_all(STDERR_FILENO, text + (guesses.empty() ? "" : "; " + guesses) + "; seed " +
                               std::to_string(seed) + "\n");
}

// What `--session` goes on with.
struct Kept {
  std::optional<SessionFile> file;
  bool there = false;
  bool in_turns = false;
  std::string note;
};

// Loads what the file has. Whether the prompt is a turn is up to the session, where there is one.
Kept load_kept(const Options& options, const lapidary::Model& model, lapidary::Session& session,
               ChatFlag& chat) {
  Kept kept{{}, false, chat.chosen(model), {}};
  const std::string& path = options.session.path;
  if (path.empty()) return kept;
  kept.file.emplace(path);
  kept.there = kept.file->there() || options.session.read_only;
  if (!kept.there) return kept;
  ProgressBar bar("reading " + one_line(path), options.model.quiet);
  kept.note = kept.file->load(session, options.session.if_unusable(), bar.callback()).note;
  const bool plain = is_plain_note(kept.note);
  if (chat.option.given() && chat.value == plain) {
    throw Error(ErrorCode::kUsage,
                one_line(path) + (plain ? " is plain text; leave out --chat"
                                        : " is a conversation; leave out --no-chat"));
  }
  kept.in_turns = !plain;
  if (const auto kind = template_of_note(kept.note)) chat.take(*kind, path);
  return kept;
}

// What was asked and answered.
struct Answer {
  std::vector<TokenId> prompt;  // All that was in front of the answer.
  lapidary::Completion completion;
};

// How it is asked.
struct Asking {
  const Options& options;
  const std::vector<Picture>& pictures;
  PictureEncoder& encoder;
  const lapidary::GenerateOptions& drawing;
  const lapidary::OnText& on_text;
  Times& times;
};

// The prompt as it is, behind what the session holds.
void read(const Asking& how, lapidary::Prompt& prompt, lapidary::Session& session) {
  check_room(session, static_cast<std::size_t>(session.position()) + prompt.ids.size());
  if (!how.pictures.empty()) how.encoder.fill(prompt, how.pictures);
  how.times.load += how.encoder.load_seconds();
  how.times.image = how.encoder.seconds();
  const double start = now();
  {
    ProgressBar bar("reading the prompt", how.options.model.quiet);
    session.append(prompt, bar.callback(), &interrupted);
  }
  how.times.prefill = now() - start;
}

Answer complete(const Asking& how, lapidary::Prompt prompt, lapidary::Session& session) {
  read(how, prompt, session);
  Answer answer{{session.ids().begin(), session.ids().end()}, {}};
  const double start = now();
  answer.completion = session.generate(how.drawing, how.on_text);
  how.times.decode = now() - start;
  return answer;
}

// The prompt as the next turn of a conversation.
Answer reply(const Asking& how, const std::string& text, Conversation& talk) {
  const lapidary::Model& model = talk.session().model();
  UserMessage message{text, {}};
  for (const Picture& picture : how.pictures)
    message.pictures.push_back({picture.describe(model.tokenizer()), unencoded(picture, model)});
  talk.check_room(message);
  for (std::size_t i = 0; i < how.pictures.size(); ++i)
    message.pictures[i].encoded = how.encoder.encode(how.pictures[i]);
  how.times.load += how.encoder.load_seconds();
  how.times.image = how.encoder.seconds();
  ProgressBar bar("reading the prompt", how.options.model.quiet);
  const auto write = [&](std::string_view piece) {
    bar.finish();
    return !how.on_text || how.on_text(piece);
  };
  Reply said = talk.say(message, how.drawing, write, bar.callback());
  how.times.prefill = said.prefill_seconds;
  how.times.decode = said.decode_seconds;
  const std::span<const TokenId> prompt =
      std::as_const(talk).session().ids().first(static_cast<std::size_t>(said.read + said.cached));
  said.completion.usage.cached_tokens = said.cached;
  return {{prompt.begin(), prompt.end()}, std::move(said.completion)};
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
  options.session.check();
  const std::string text = gather_prompt(options);
  const std::vector<std::string> choices =
      options.choices.empty() ? std::vector<std::string>() : read_choices(options.choices);
  const std::vector<Picture> pictures = read_pictures(options.images, options.model.memory_limit);
  ModelFlags flags = options.model;
  // Whoever goes on with the session may go back in it.
  if (!options.session.path.empty()) flags.snapshot_memory.reset();
  Times times;
  const double start = now();
  const lapidary::Model model =
      load_model(flags, options.images, pictures.empty() ? Vision::kIfGiven : Vision::kNeeded, {},
                 true, decoded_bytes(pictures) + options.speculation.draft_bytes(flags));
  lapidary::Session session(model, options.speculation.session(flags, model));
  PrefixWarning prefix_warning;
  prefix_warning.tell(flags.quiet, session.prefix_cache());
  check_text(session, text.size());
  ChatFlag chat = options.chat;
  hold_interrupts(Interrupts::kStop);
  Kept kept = load_kept(options, model, session, chat);
  lapidary::Prompt prompt = make_prompt(options, chat, kept.in_turns, model, pictures, text);
  times.load = now() - start;

  PictureEncoder encoder(model, flags, options.images, session.memory_bytes());
  Output output;
  lapidary::OnText on_text;
  if (!options.json) on_text = [&](std::string_view piece) { return output.write(piece); };
  const std::uint64_t seed = options.sampling.seed_or_random();
  lapidary::GenerateOptions wanted = options.sampling.options(seed);
  if (kept.in_turns) chat.stop_at_turns(model, wanted.stop);
  options.speculation.apply(wanted);
  wanted.logprobs = options.logprobs;
  const Asking how{options, pictures, encoder, wanted, on_text, times};
  if (!choices.empty()) {
    check_room(session, prompt.ids.size());
    const std::vector<std::vector<TokenId>> ids =
        choice_ids(model.tokenizer(), session.context(), choices);
    check_choices(session.context(), prompt.ids.size(), ids);
    read(how, prompt, session);
    return score(options, session, prompt, choices, ids, times);
  }
  Answer answer;
  Conversation talk(std::move(session), "", chat.kind(model));
  if (kept.file && kept.in_turns) {
    if (kept.there) talk.take_note(kept.note, kept.file->path());
    answer = reply(how, text, talk);
  } else {
    if (kept.there) prompt.ids.erase(prompt.ids.begin());  // BOS.
    answer = complete(how, std::move(prompt), talk.session());
  }
  prefix_warning.tell(flags.quiet, talk.session().prefix_cache());

  if (options.json) {
    const Json logprobs =
        options.logprobs < 0 ? Json(nullptr) : logprobs_of(model.tokenizer(), answer.completion);
    print_json(output, answer.prompt, answer.completion, logprobs, seed, times);
  } else {
    output.end_line();
  }
  if (kept.file && !options.session.read_only)
    kept.in_turns ? kept.file->save(talk.settled({}, nullptr), talk.note())
                  : kept.file->save(talk.session(), plain_note());
  output.check();
  const auto cached = static_cast<std::size_t>(answer.completion.usage.cached_tokens);
  if (!options.model.quiet)
    print_statistics(answer.prompt.size() - cached, answer.completion, seed, times, encoder);
  return answer.completion.finish_reason == lapidary::FinishReason::kCancelled ? 130 : 0;
}

}  // namespace

void add_generate(CLI::App& app, Run& run) {
  CLI::App& command = add_command(app, "generate", "complete a prompt");
  const auto options = std::make_shared<Options>();
  add_model_flags(command, options->model);
  add_prefix_flags(command, options->model);
  add_sampling_flags(command, options->sampling);
  add_chat_flag(command, options->chat);
  add_speculation_flags(command, options->speculation);
  add_image_flags(command, options->images);
  add_session_flags(command, options->session);
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
      .excludes(logprobs)
      .excludes(find_option(command, "--session"));
  when_chosen(command, run, [options] { return generate(*options); });
}

}  // namespace cli
