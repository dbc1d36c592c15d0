#include "logprob_json.h"

#include <algorithm>
#include <cmath>

#include "text.h"

namespace cli {

using lapidary::Completion;
using lapidary::RankedToken;
using lapidary::Score;
using lapidary::TokenId;
using lapidary::Tokenizer;
using lapidary::TokenLogprob;

namespace {

// An image token may have no row in the vocabulary, and no piece.
std::string bytes_of(const Tokenizer& tokenizer, TokenId id) {
  return id < tokenizer.vocabulary_size() ? std::string(tokenizer.piece(id)) : "";
}

Json byte_array(const std::string& bytes) {
  Json list = Json::array();
  for (const char byte : bytes) list.push_back(static_cast<unsigned char>(byte));
  return list;
}

// JSON has no infinity.
Json number(double logprob) { return std::isfinite(logprob) ? Json(logprob) : Json(nullptr); }

// By their texts; of two tokens with the same text the more probable. The token itself is always
// among them.
Json top_of(const Tokenizer& tokenizer, const TokenLogprob& token) {
  Json top = Json::object();
  for (const RankedToken& other : token.best)
    top.emplace(token_text(tokenizer, other.id), number(other.logprob));
  top.emplace(token_text(tokenizer, token.id), number(token.logprob));
  return top;
}

std::size_t characters(const std::string& text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return !lapidary::is_continuation(c); }));
}

// The lists of a completion's logprobs, a token at a time.
class Lists {
 public:
  Lists(const Tokenizer& tokenizer, std::size_t characters)
      : tokenizer_(tokenizer), characters_(characters) {}

  void add(TokenId id, const TokenLogprob* token) {
    tokens_.push_back(token_text(tokenizer_, id));
    logprobs_.push_back(token == nullptr ? Json(nullptr) : number(token->logprob));
    top_.push_back(token == nullptr ? Json(nullptr) : top_of(tokenizer_, *token));
    offsets_.push_back(std::min(offset_, characters_));
    offset_ += characters(bytes_of(tokenizer_, id));
  }

  Json json() {
    return {{"tokens", std::move(tokens_)},
            {"token_logprobs", std::move(logprobs_)},
            {"top_logprobs", std::move(top_)},
            {"text_offset", std::move(offsets_)}};
  }

 private:
  const Tokenizer& tokenizer_;
  std::size_t characters_;  // Of the whole text.
  std::size_t offset_ = 0;
  Json tokens_ = Json::array(), logprobs_ = Json::array(), top_ = Json::array(),
       offsets_ = Json::array();
};

Json ranked(const Tokenizer& tokenizer, TokenId id, double logprob) {
  return {{"token", token_text(tokenizer, id)},
          {"logprob", number(logprob)},
          {"bytes", byte_array(bytes_of(tokenizer, id))}};
}

}  // namespace

std::string token_text(const Tokenizer& tokenizer, TokenId id) {
  if (id >= tokenizer.vocabulary_size()) return "<image_soft_token>";
  if (tokenizer.is_control(id)) return tokenizer.decode({&id, 1}, true);
  std::string bytes(tokenizer.piece(id));
  if (!lapidary::find_invalid_utf8(bytes)) return bytes;
  std::string shown = "bytes:";
  for (const char byte : bytes) shown += format("\\x%02x", static_cast<unsigned char>(byte));
  return shown;
}

std::span<const TokenLogprob> shown_logprobs(const Tokenizer& tokenizer,
                                             const Completion& completion) {
  const std::span<const TokenLogprob> all(completion.logprobs);
  if (completion.finish_reason != lapidary::FinishReason::kStop) return all;
  const std::span<const TokenId> stops = tokenizer.stop_ids();
  std::size_t count = 0, offset = 0;
  for (; count < all.size() && offset < completion.text.size(); ++count)
    offset += bytes_of(tokenizer, all[count].id).size();
  // Those without a text at the end belong to it, but for the one that has ended it.
  for (; count < all.size() && bytes_of(tokenizer, all[count].id).empty(); ++count) {
    if (std::ranges::find(stops, all[count].id) != stops.end()) break;
  }
  return all.first(count);
}

Json completion_logprobs(const Tokenizer& tokenizer, const EchoedPrompt& echoed,
                         const Completion& completion) {
  Lists lists(tokenizer, characters(echoed.text) + characters(completion.text));
  for (std::size_t i = 0; i < echoed.ids.size(); ++i) {
    const std::optional<TokenLogprob>& known = echoed.logprobs[i];
    lists.add(echoed.ids[i], known ? &*known : nullptr);
  }
  for (const TokenLogprob& token : shown_logprobs(tokenizer, completion))
    lists.add(token.id, &token);
  return lists.json();
}

Json chat_logprobs(const Tokenizer& tokenizer, const Completion& completion) {
  Json content = Json::array();
  for (const TokenLogprob& token : shown_logprobs(tokenizer, completion)) {
    Json entry = ranked(tokenizer, token.id, token.logprob);
    entry["top_logprobs"] = Json::array();
    for (const RankedToken& other : token.best)
      entry["top_logprobs"].push_back(ranked(tokenizer, other.id, other.logprob));
    content.push_back(std::move(entry));
  }
  return content;
}

Json choices_json(std::span<const std::string> texts, std::span<const Score> scores) {
  Json choices = Json::array();
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const Score& score = scores[i];
    Json logprobs = Json::array();
    for (const double token : score.tokens) logprobs.push_back(number(token));
    choices.push_back({{"text", texts[i]},
                       {"logprob", number(score.sum)},
                       {"tokens", score.tokens.size()},
                       {"bytes", score.bytes},
                       {"per_token", number(score.per_token())},
                       {"per_byte", number(score.per_byte())},
                       {"greedy", score.greedy},
                       {"token_logprobs", std::move(logprobs)}});
  }
  return choices;
}

std::size_t best_choice(std::span<const Score> scores) {
  const auto best = std::ranges::max_element(scores, {}, &Score::sum);
  return static_cast<std::size_t>(best - scores.begin());
}

}  // namespace cli
