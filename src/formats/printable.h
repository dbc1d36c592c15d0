#pragma once

#include <string>
#include <string_view>

namespace lapidary {

/// What a file says of itself, for a message: one line of at most 200 bytes, without control
/// characters, cut between characters.
std::string printable_value(std::string_view text);

}  // namespace lapidary
