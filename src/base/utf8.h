#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace lapidary {

/// One step through UTF-8 (RFC 3629: no surrogates, no overlong forms, nothing above U+10FFFF).
struct Utf8Step {
  std::size_t bytes =
      0;  // Taken from the text: of the character, or of the longest beginning of one (at least 1).
  char32_t code_point = 0;  // U+FFFD unless `valid`.
  bool valid = false;
  bool cut = false;  // The text ends inside of a character that was valid so far.
};

/// Whether `c` is a byte of a character that is not its first.
inline bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; }

/// Reads the character at the start of `text`, which must not be empty.
Utf8Step next_utf8(std::string_view text);

/// `text` with U+FFFD for each longest beginning of a character that does not go on as one, as
/// Python's "replace" has it.
std::string replace_invalid_utf8(std::string_view text);

bool is_valid_utf8(std::string_view text);

/// How many bytes at the end of `text` begin a character that is not complete yet; 0 to 3.
std::size_t incomplete_utf8_suffix(std::string_view text);

}  // namespace lapidary
