#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "json.h"
#include "lapidary/lapidary.h"

namespace cli {

/// The text of one token; control tokens by their names. Bytes that are no characters alone as
/// `bytes:\xe2\x82`.
std::string token_text(const lapidary::Tokenizer& tokenizer, lapidary::TokenId id);

/// The tokens of `completion` that its text has, with their log-probabilities: a stop id and what a
/// stop string cuts off are left out.
std::span<const lapidary::TokenLogprob> shown_logprobs(const lapidary::Tokenizer& tokenizer,
                                                       const lapidary::Completion& completion);

/// What is in front of a completion that echoes its prompt: the prompt's ids, and what is known of
/// each.
struct EchoedPrompt {
  std::vector<lapidary::TokenId> ids;
  std::vector<std::optional<lapidary::TokenLogprob>> logprobs;  ///< [ids.size()]
  std::string text;                                             ///< Of the ids.
};

/// As OpenAI's completions have it: {tokens, token_logprobs, top_logprobs, text_offset}, the
/// offsets in characters of `echoed.text` and the completion's behind it.
Json completion_logprobs(const lapidary::Tokenizer& tokenizer, const EchoedPrompt& echoed,
                         const lapidary::Completion& completion);

/// As OpenAI's chats have it: an array of {token, logprob, bytes, top_logprobs}.
Json chat_logprobs(const lapidary::Tokenizer& tokenizer, const lapidary::Completion& completion);

/// Of each text: {text, logprob, tokens, bytes, per_token, per_byte, greedy, token_logprobs}.
Json choices_json(std::span<const std::string> texts, std::span<const lapidary::Score> scores);

/// The most probable as a whole, the first of those alike.
std::size_t best_choice(std::span<const lapidary::Score> scores);

}  // namespace cli
