#pragma once

#include <atomic>
#include <span>
#include <string_view>

#include "lapidary/prompt.h"
#include "lapidary/tokenizer.h"

namespace lapidary {

/// Which template a file's `text` is, by what it writes: the markers in it, and none of another
/// kind's. An empty one is none.
ChatTemplate recognise_template(std::string_view text);

/// One user turn, to be put behind what a session holds; in Gemma's own template:
///
///     [<bos>][<end_of_turn>\n]<start_of_turn>user\n{system, blank
///     line}{parts}<end_of_turn>\n<start_of_turn>model\n
///
/// with `<bos>` when `before`, the ids that are there, are none, and `<end_of_turn>\n` when they
/// end in a model's turn that is open. Each text and the system text are trimmed, the parts joined
/// with nothing between; the system text counts in the first turn only. A picture becomes
///
///     \n\n<start_of_image><image_soft_token>…<end_of_image>\n\n
///
/// and one with crops as many of these as it has views, in a sentence of Gemma's own processor. The
/// turns of a conversation, with the model's reply ids between them, are the ids that chat_prompt()
/// gives for the whole of it. Throws Error(kUsage) when the vocabulary has no turn tokens, or no
/// image tokens for a picture, Error(kInterrupted) once `cancel` is set.
Prompt user_turn(const Tokenizer& tokenizer, std::span<const ContentPart> parts,
                 std::string_view system, std::span<const TokenId> before,
                 ChatTemplate as = ChatTemplate::kGemma, const std::atomic<bool>* cancel = nullptr);

/// `text` without the white space around it, as Python's str.strip() sees it (that is what the
/// templates were written for): Unicode spaces such as U+3000 included.
std::string_view trim(std::string_view text);

}  // namespace lapidary
