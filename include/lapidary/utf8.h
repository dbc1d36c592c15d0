#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "lapidary/export.h"

namespace lapidary {

/// One step through UTF-8 (RFC 3629: no surrogates, no overlong forms, nothing above U+10FFFF).
struct Utf8Step {
  std::size_t bytes = 0;    ///< Taken from the text: of the character, or of the longest beginning
                            ///< of one (at least 1).
  char32_t code_point = 0;  ///< U+FFFD unless `valid`.
  bool valid = false;       ///< Whether it is a character.
  bool cut = false;         ///< The text ends inside of a character that was valid so far.
};

/// Whether `c` is a byte of a character that is not its first.
constexpr bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; }

/// Reads the character at the start of `text`, which must not be empty. May be called from any
/// thread, as all of these.
LAPIDARY_API Utf8Step next_utf8(std::string_view text);

/// `text` with U+FFFD for each longest beginning of a character that does not go on as one, as
/// Python's "replace" has it.
LAPIDARY_API std::string replace_invalid_utf8(std::string_view text);

/// Where the first byte stands that is of no character; nothing where all are.
LAPIDARY_API std::optional<std::size_t> find_invalid_utf8(std::string_view text);

/// How many bytes at the end of `text` begin a character that is not complete yet; 0 to 3.
LAPIDARY_API std::size_t incomplete_utf8_suffix(std::string_view text);

}  // namespace lapidary
