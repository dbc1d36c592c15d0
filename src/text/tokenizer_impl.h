#pragma once

#include <memory>

#include "formats/weight_source.h"
#include "lapidary/tokenizer.h"

namespace lapidary {

/// Builds the tokenizer of a GGUF file from its `tokenizer.ggml.*` keys (GEMMA3.md, Tokenizer). Throws Error(kFile)
/// naming the key when the vocabulary is missing, ragged or has no byte tokens.
Tokenizer load_tokenizer(const WeightSource& source);

}  // namespace lapidary
