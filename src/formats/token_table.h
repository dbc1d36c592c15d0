#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/paged.h"

namespace lapidary {

/// SentencePiece's numbers for what a token is; all files mean them.
enum class TokenType : std::uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

/// The tokens of a tokenizer's file in the order of their ids: one block of text, not a quarter of
/// a million strings.
struct TokenTable {
  struct Piece {
    std::uint32_t begin;  // In `text`.
    std::uint32_t bytes;
    float score;
    TokenType type;
  };
  std::string file;    // For messages: its path …
  std::string tokens;  // … and what it calls its tokens.
  PagedString text;
  PagedVector<Piece> pieces;

  std::string_view text_of(const Piece& piece) const {
    return std::string_view(text).substr(piece.begin, piece.bytes);
  }
};

}  // namespace lapidary
