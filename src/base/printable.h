#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace lapidary {

/// What a foreign value may take of a message, and what the whole line may, in bytes.
inline constexpr std::size_t kMostOfAValue = 200;
inline constexpr std::size_t kMostOfALine = 2000;

/// Whether `text` is one line of at most `most` bytes of valid UTF-8 that holds nothing for which a
/// terminal or a log does more than print it: no control characters (C0, DEL, C1), no separators of
/// lines, no marks that turn the direction of writing.
bool is_printable(std::string_view text, std::size_t most);

/// A foreign text for a message (what a file says of itself, a role, a name, what another library
/// says): at most `most` bytes, cut between characters, with a space for each control character,
/// "?" for anything else that is_printable() does not let pass.
std::string printable_value(std::string_view text, std::size_t most = kMostOfAValue);

/// A whole message so, of at most kMostOfALine bytes, cut in its middle: its beginning names the
/// file and its end says what is wrong.
std::string printable_line(std::string_view text);

}  // namespace lapidary
