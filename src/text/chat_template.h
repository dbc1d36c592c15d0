#pragma once

#include <string_view>
#include <vector>

#include "lapidary/tokenizer.h"

namespace lapidary {

/// Ids of one user turn in Gemma's chat template, to be put behind what a session holds:
///
///     [<bos>][<end_of_turn>\n]<start_of_turn>user\n{system, blank
///     line}{text}<end_of_turn>\n<start_of_turn>model\n
///
/// with `<bos>` when it is the `first` turn, and `<end_of_turn>\n` when `close_model_turn`, the
/// model's reply being still open. Text and system text are trimmed; the system text counts in the
/// first turn only. The turns of a conversation, with the model's reply ids between them, are the
/// ids that chat_prompt() gives for the whole of it. Throws Error(kUsage) when the vocabulary has
/// no turn tokens.
std::vector<TokenId> user_turn_ids(const Tokenizer& tokenizer, std::string_view text,
                                   std::string_view system, bool first, bool close_model_turn);

/// `text` without the white space around it, as Python's str.strip() sees it (that is what the
/// templates were written for): Unicode spaces such as U+3000 included.
std::string_view trim(std::string_view text);

}  // namespace lapidary
