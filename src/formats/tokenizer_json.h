#pragma once

#include <string>

#include "formats/token_table.h"

namespace lapidary {

/// The tokens of a tokenizer.json: byte pairs with byte fallback, spaces written as U+2581. Merges
/// become scores, the earlier the higher, which order SentencePiece's merges alike. Throws
/// Error(kFile): one line that names the file and the key.
TokenTable read_tokenizer_json(const std::string& path);

}  // namespace lapidary
