#pragma once

#include <string>
#include <vector>

#include "lapidary/lapidary.h"
#include "terminal.h"

namespace cli {

/// The continuations of a file, one a line: the line as it is, without its end, or, where it begins
/// with a quotation mark, the JSON string that it is. "-": standard input. Throws Error(kFile),
/// Error(kUsage) naming the line.
std::vector<std::string> read_choices(const std::string& path);

/// As ids that follow a prompt. Throws Error(kContext) for a text that cannot fit `context` tokens.
std::vector<std::vector<lapidary::TokenId>> choice_ids(const lapidary::Tokenizer& tokenizer,
                                                       int context,
                                                       const std::vector<std::string>& choices);

/// Throws Error(kContext) for one that does not fit behind a prompt of `prompt` tokens.
void check_choices(int context, std::size_t prompt,
                   const std::vector<std::vector<lapidary::TokenId>>& choices);

/// Best first.
void print_choices(Output& output, const std::vector<std::string>& choices,
                   const std::vector<lapidary::Score>& scores);

}  // namespace cli
