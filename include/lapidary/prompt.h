#pragma once

// Texts, pictures and turns as the ids that a session computes.

#include <atomic>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lapidary/export.h"
#include "lapidary/image_encoder.h"
#include "lapidary/model.h"
#include "lapidary/tokenizer.h"

namespace lapidary {

/// A piece of a message: text, or a picture.
struct ContentPart {
  std::string text;                        ///< UTF-8.
  std::optional<EncodedImage> image = {};  ///< When set, `text` is not looked at.
};

/// What a session computes: ids, and what the image tokens among them stand for. Every run of image
/// tokens (`<image_soft_token>`) is as long as the features that fill it; several may follow each
/// other.
struct Prompt {
  std::vector<TokenId> ids;           ///< BOS included.
  std::vector<ImageFeatures> images;  ///< In the order of their tokens.
};

/// One turn of a conversation, for chat_prompt().
struct Message {
  std::string role;  ///< "system" (first only), "user" or "model" ("assistant" is read as "model").
  std::string content;                  ///< UTF-8.
  std::vector<ContentPart> parts = {};  ///< Not empty: instead of `content`. Pictures: user only.
};

/// A conversation in the turns of `as`, BOS first, ending where the model's turn begins. Gemma's
/// own have no role for a system text, which goes in front of the first user's, and trim every
/// text. The markers of ChatML are control tokens where the vocabulary has them as such, else text:
/// then a user's text can forge them. Throws Error(kUsage) when roles do not alternate or one is
/// unknown, when the vocabulary has no tokens for Gemma's turns, or no image tokens for a picture.
/// Error(kInterrupted) some milliseconds after `cancel` is set, as those below.
LAPIDARY_API Prompt chat_prompt(const Tokenizer& tokenizer, std::span<const Message> messages,
                                ChatTemplate as = ChatTemplate::kGemma,
                                const std::atomic<bool>* cancel = nullptr);

/// What follows `reply`, drawn behind a chat_prompt() or another next_turn(): the end of the
/// model's turn, as far as the reply does not hold it, and a user's `message` up to where the
/// model's next turn begins. Throws as chat_prompt does.
LAPIDARY_API Prompt next_turn(const Tokenizer& tokenizer, std::span<const TokenId> reply,
                              const Message& message, ChatTemplate as = ChatTemplate::kGemma,
                              const std::atomic<bool>* cancel = nullptr);

/// Texts that end a model's turn and that no stop id stands for, to be added to
/// GenerateOptions::stop; usually none. May be called from any thread.
LAPIDARY_API std::vector<std::string> turn_stops(const Tokenizer& tokenizer, ChatTemplate as);

/// BOS and raw text (as it is, not trimmed) with pictures. `parse_control` as Tokenizer::encode has
/// it. Throws as chat_prompt does. May be called from any thread.
LAPIDARY_API Prompt text_prompt(const Tokenizer& tokenizer, std::span<const ContentPart> parts,
                                bool parse_control = false,
                                const std::atomic<bool>* cancel = nullptr);

/// The same of text alone.
LAPIDARY_API Prompt text_prompt(const Tokenizer& tokenizer, std::string_view text,
                                bool parse_control = false,
                                const std::atomic<bool>* cancel = nullptr);

/// Tokens that a picture of `views` views takes in a prompt, the words around it included. Throws
/// Error(kUsage) for fewer than 1 or more than 4096.
LAPIDARY_API int image_prompt_tokens(const Tokenizer& tokenizer, int views);

}  // namespace lapidary
