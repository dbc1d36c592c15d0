#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace cli {

/// Keys stay in the order they were put in.
using Json = nlohmann::ordered_json;

/// Arrays and objects within each other that parse_json() takes. The JSON library walks values
/// recursively when it copies and writes them, so a line nested without limit would end the
/// process.
inline constexpr int kMaxJsonDepth = 200;

/// Members of one object, which the library looks up one after the other, and brackets and commas,
/// each of which may stand for a hundred bytes of memory, that parse_json() takes.
inline constexpr int kMaxJsonMembers = 1000;
inline constexpr int kMaxJsonValues = 1'000'000;

/// Offset of the first character of JSON, outside strings, that `found(character, depth)` is true
/// of; npos when there is none. `depth`: brackets that are open in front of it.
template <class Found>
std::size_t find_in_json(std::string_view text, Found found) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
      continue;
    }
    if (found(c, depth)) return i;
    in_string = c == '"';
    depth += (c == '[' || c == '{') ? 1 : (c == ']' || c == '}') ? -1 : 0;
  }
  return std::string_view::npos;
}

/// The value of `text`, or a discarded one (`is_discarded()`) with the reason in `error`: what is
/// wrong and at which byte, counted from 1.
Json parse_json(std::string_view text, std::string& error, int most_values = kMaxJsonValues);

/// What a MemoryReserve must have for the value of `text` to be parsed and destroyed whatever
/// happens.
std::size_t json_reserve(std::string_view text);

/// One line of JSON; bytes that are no valid UTF-8, such as half a character at the end of a text,
/// become U+FFFD.
std::string to_line(const Json& value);

/// `text`, or what fits of it into `most` bytes without cutting a character, and "…".
std::string shortened(std::string_view text, std::size_t most = 200);

/// 16 hexadecimal digits that follow from `text` alone (FNV-1a, 64 bits), to notice a change.
std::string fingerprint(std::string_view text);

/// A foreign value for a message: one line of JSON, shortened.
std::string quoted(const Json& value);

}  // namespace cli
