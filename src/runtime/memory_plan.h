#pragma once

#include <cstdint>

#include "lapidary/model.h"

namespace lapidary {

/// What a tokenizer of `tokens` takes: pieces, tables, and SentencePiece's own. Measured, with the
/// real vocabulary.
std::uint64_t vocabulary_bytes(int tokens);

/// The program, its libraries and stacks, and what reading a file takes. Measured.
inline constexpr std::uint64_t kProcessBytes = std::uint64_t{16} << 20;
/// Stack and heap of a thread of the team, of what it touches.
inline constexpr std::uint64_t kThreadBytes = std::uint64_t{320} << 10;

/// What a loaded model holds.
std::uint64_t held_by(const ModelInfo& info);

}  // namespace lapidary
