#include "score_choices.h"

#include <algorithm>
#include <numeric>
#include <string_view>

#include "json.h"
#include "pictures.h"
#include "text.h"
#include "text_file.h"

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;
using lapidary::Score;

namespace {

std::string choice_of(const std::string& line, const std::string& where) {
  if (line.empty()) {
    throw Error(ErrorCode::kUsage,
                where +
                    ": expected a continuation, found an empty line (a JSON string can hold "
                    "line ends)");
  }
  require_utf8(line, where);
  if (line.front() != '"') return line;
  std::string wrong;
  const Json value = parse_json(line, wrong);
  if (!value.is_string()) {
    throw Error(ErrorCode::kUsage, where +
                                       ": a line that begins with a quotation mark is read as a "
                                       "JSON string, which this is not" +
                                       (wrong.empty() ? "" : ": " + wrong));
  }
  if (value.get_ref<const std::string&>().empty())
    throw Error(ErrorCode::kUsage, where + ": expected a continuation, found an empty string");
  return value.get<std::string>();
}

}  // namespace

std::vector<std::string> read_choices(const std::string& path) {
  const std::string text = prompt_text(read_text_file(path));
  const std::string file = path == "-" ? "standard input" : path;
  if (text.empty()) throw Error(ErrorCode::kUsage, file + ": expected a continuation a line");
  std::vector<std::string> choices;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    if (line.ends_with('\r')) line.pop_back();
    choices.push_back(choice_of(line, file + " line " + std::to_string(choices.size() + 1)));
    if (choices.size() > static_cast<std::size_t>(lapidary::kMostContinuations)) {
      throw Error(ErrorCode::kUsage, file + ": expected at most " +
                                         std::to_string(lapidary::kMostContinuations) +
                                         " continuations, found more");
    }
    begin = end + 1;
  }
  return choices;
}

std::vector<std::vector<lapidary::TokenId>> choice_ids(const lapidary::Tokenizer& tokenizer,
                                                       int context,
                                                       const std::vector<std::string>& choices) {
  std::vector<std::vector<lapidary::TokenId>> ids;
  ids.reserve(choices.size());
  for (const std::string& choice : choices) {
    check_text(tokenizer, context, choice.size());
    ids.push_back(tokenizer.encode(choice, false, &interrupted));
  }
  return ids;
}

void check_choices(int context, std::size_t prompt,
                   const std::vector<std::vector<lapidary::TokenId>>& choices) {
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (choices[i].size() + prompt <= static_cast<std::size_t>(context)) continue;
    throw Error(ErrorCode::kContext,
                format("choice %zu has %zu tokens and the prompt %zu, but the context holds %d",
                       i + 1, choices[i].size(), prompt, context));
  }
}

void print_choices(Output& output, const std::vector<std::string>& choices,
                   const std::vector<Score>& scores) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(
      order, [&](std::size_t a, std::size_t b) { return scores[a].sum > scores[b].sum; });
  std::string text = "   logprob  per token   per byte  tokens  greedy  choice\n";
  for (const std::size_t i : order) {
    const Score& score = scores[i];
    text += format("%10.4f %10.4f %10.4f  %6zu  %6s  ", score.sum, score.per_token(),
                   score.per_byte(), score.tokens.size(), score.greedy ? "yes" : "no") +
            to_line(Json(choices[i])) + "\n";
  }
  output.write(text);
}

}  // namespace cli
