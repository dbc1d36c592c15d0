#pragma once

#include <atomic>
#include <memory>

#include "formats/weight_source.h"
#include "lapidary/tokenizer.h"

namespace lapidary {

/// Builds the tokenizer of a source's vocabulary (docs/gemma3.md, Tokenizer). Throws Error(kFile)
/// naming the key when the vocabulary is missing, ragged or has no byte tokens, or when it would,
/// beside `held` bytes of the same files, take more than twice the files and 64 MiB;
/// Error(kInterrupted) once `cancel` is set.
///
/// SentencePiece is built meanwhile by a thread of its own, so that the weights can be read at the
/// same time; the first encode() waits for it. A tokenizer that is given up meanwhile does not.
Tokenizer load_tokenizer(const WeightSource& source, const std::atomic<bool>* cancel = nullptr,
                         std::uint64_t held = 0);

/// Waits until `tokenizer` can encode. Throws Error(kFile) when SentencePiece refuses the
/// vocabulary (a duplicate token), Error(kInterrupted) once `cancel` is set. Call it once when
/// everything else of a file is loaded: encode() need not wait afterwards.
void finish_loading(const Tokenizer& tokenizer, const std::atomic<bool>* cancel = nullptr);

}  // namespace lapidary
