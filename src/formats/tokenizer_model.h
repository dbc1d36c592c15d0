#pragma once

#include <string>

#include "formats/token_table.h"

namespace lapidary {

/// The tokens of a file of SentencePiece's own, tokenizer.model. Throws Error(kFile): one line that
/// names the file, for what is no such file or has another kind of model than Gemma's: byte pairs,
/// a text left as it is.
TokenTable read_tokenizer_model(const std::string& path);

}  // namespace lapidary
