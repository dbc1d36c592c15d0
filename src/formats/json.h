#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace lapidary {

using Json = nlohmann::json;

/// What a text may hold: more than any file beside a model has, and little enough that the values
/// made of it take less than 64 MiB beside the text.
struct JsonLimits {
  std::size_t depth = 64;                           // Arrays and objects within each other.
  std::size_t values = 200000;                      // Brackets and commas.
  std::size_t string_bytes = std::size_t{1} << 20;  // As they stand in the text.
};

/// Throws Error(kFile) where `text` goes beyond a limit: before anything is made of it. `where`
/// begins every message: the file.
void check_json_limits(std::string_view text, const std::string& where, const JsonLimits& limits);

/// The value of `text`. Throws Error(kFile), one line that begins with `where`, for what is no
/// JSON, goes beyond `limits` or has a name twice in one object.
Json parse_json(std::string_view text, const std::string& where, const JsonLimits& limits = {});

/// The same as events for `handler`. Throws as parse_json does, but knows nothing of names that
/// stand twice: the handler sees them. What it throws passes.
void parse_json(std::string_view text, const std::string& where, const JsonLimits& limits,
                nlohmann::json_sax<Json>& handler);

/// What kind of value it is, with its article, for messages: "a string", "null".
const char* kind_of(const Json& value);

}  // namespace lapidary
