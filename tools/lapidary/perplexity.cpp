#include <algorithm>
#include <cmath>
#include <memory>

#include "commands.h"
#include "json.h"
#include "model_flags.h"
#include "options.h"
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
  std::string file;
  bool json = false;
};

// Mean and spread of the negative log-likelihoods, as llama-perplexity reports them.
struct Score {
  double sum = 0;
  double squares = 0;
  int count = 0;

  void add(double nll) {
    sum += nll;
    squares += nll * nll;
    ++count;
  }
  double perplexity() const { return std::exp(sum / count); }
  double uncertainty() const {
    const double mean = sum / count;
    const double variance = squares / count - mean * mean;
    return count > 1 && variance > 0 ? std::sqrt(variance / (count - 1)) * perplexity() : 0;
  }
};

double negative_log_likelihood(std::span<const float> logits, TokenId next) {
  const float best = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const float logit : logits) total += static_cast<double>(std::exp(logit - best));
  return std::log(total) + static_cast<double>(best) -
         static_cast<double>(logits[static_cast<std::size_t>(next)]);
}

// BOS takes the place of the chunk's first token; tokens of the first half are context only.
void score_chunk(lapidary::Session& session, std::vector<TokenId> ids, Score& score) {
  ids.front() = session.model().tokenizer().bos();
  const std::size_t half = ids.size() / 2;
  const std::span<const TokenId> all(ids);
  session.clear();
  session.append(all.first(half), {}, &interrupted);
  // The last token is only ever a target.
  session.append_with_logits(
      all.subspan(half, ids.size() - half - 1),
      [&](int position, std::span<const float> logits) {
        score.add(negative_log_likelihood(logits, ids[static_cast<std::size_t>(position) + 1]));
      },
      &interrupted);
}

int perplexity(const Options& options) {
  const std::string text = without_mark(read_text_file(options.file, kMostTextBytes));
  require_utf8(text, options.file);
  check_memory(options.model, {.screened_head = false}, true);
  const lapidary::Model model = load_model(options.model, {.screened_head = false});
  const std::vector<TokenId> ids = lapidary::text_prompt(model.tokenizer(), text).ids;
  const auto chunk = static_cast<std::size_t>(options.model.context);
  if (ids.size() < 2 * chunk) {
    throw Error(ErrorCode::kUsage, options.file + ": expected at least two chunks of -c " +
                                       std::to_string(chunk) + " tokens, found " +
                                       std::to_string(ids.size()) + " tokens");
  }
  lapidary::Session session(model, options.model.session());
  hold_interrupts(Interrupts::kStop);

  const std::size_t chunks = ids.size() / chunk;
  Score score;
  ProgressBar bar("scoring", options.model.quiet);
  for (std::size_t i = 0; i < chunks; ++i) {
    const auto first = ids.begin() + static_cast<std::ptrdiff_t>(i * chunk);
    score_chunk(session, {first, first + static_cast<std::ptrdiff_t>(chunk)}, score);
    bar.update(i + 1, chunks);
  }
  bar.finish();
  Output output;
  if (options.json) {
    const Json object = {{"perplexity", score.perplexity()},
                         {"uncertainty", score.uncertainty()},
                         {"chunks", chunks},
                         {"scored_tokens", score.count},
                         {"tokens", ids.size()},
                         {"context", chunk}};
    output.write(to_line(object) + "\n");
  } else {
    output.write(format("PPL = %.4f +/- %.5f (%zu chunks of %zu tokens, %d scored)\n",
                        score.perplexity(), score.uncertainty(), chunks, chunk, score.count));
  }
  output.check();
  return 0;
}

}  // namespace

void add_perplexity(CLI::App& app, Run& run) {
  CLI::App& command =
      add_command(app, "perplexity", "perplexity of a text, as llama.cpp counts it");
  const auto options = std::make_shared<Options>();
  options->model.context = 512;
  add_model_flags(command, options->model);
  // Elsewhere these are the context of a conversation and the file of a prompt.
  find_option(command, "--context")
      .describe("tokens of a chunk")
      .range(4, 1 << 28)
      .environment("LAPIDARY_PERPLEXITY_CONTEXT");
  add_option(command, "-f,--file", options->file, "the text")
      .show_type("FILE")
      .required()
      .environment("LAPIDARY_PERPLEXITY_FILE");
  add_flag(command, "--json", options->json, "print one JSON object");
  when_chosen(command, run, [options] { return perplexity(*options); });
}

}  // namespace cli
