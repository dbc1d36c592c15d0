#include "formats/json.h"

#include <set>
#include <vector>

#include "base/format.h"
#include "base/printable.h"
#include "lapidary/error.h"

namespace lapidary {
namespace {

[[noreturn]] void fail(const std::string& where, const std::string& what) {
  throw Error(ErrorCode::kFile, where + ": " + what);
}

/// Names that stand twice in one object: the library would keep one of the two values.
class Repeated final : public nlohmann::json_sax<Json> {
 public:
  explicit Repeated(const std::string& where) : where_(where) {}

  bool start_object(std::size_t /*size*/) override {
    open_.emplace_back();
    return true;
  }
  bool end_object() override {
    open_.pop_back();
    return true;
  }
  bool key(std::string& name) override {
    if (!open_.back().insert(name).second)
      fail(where_, "has \"" + printable_value(name) + "\" twice in one object");
    return true;
  }
  bool start_array(std::size_t /*size*/) override { return true; }
  bool end_array() override { return true; }
  bool null() override { return true; }
  bool boolean(bool /*value*/) override { return true; }
  bool number_integer(number_integer_t /*value*/) override { return true; }
  bool number_unsigned(number_unsigned_t /*value*/) override { return true; }
  bool number_float(number_float_t /*value*/, const std::string& /*text*/) override { return true; }
  bool string(std::string& /*value*/) override { return true; }
  bool binary(binary_t& /*value*/) override { return true; }
  bool parse_error(std::size_t byte, const std::string& /*token*/,
                   const Json::exception& error) override {
    throw_parse_error(where_, byte, error);
  }

  [[noreturn]] static void throw_parse_error(const std::string& where, std::size_t byte,
                                             const Json::exception& error) {
    constexpr int kNumberOutOfRange = 406;
    if (error.id == kNumberOutOfRange) fail(where, "holds a number beyond 1.8e308");
    fail(where, format("is no valid JSON at byte {}", byte));
  }

 private:
  const std::string& where_;
  std::vector<std::set<std::string>> open_;  // Names so far in each object that is open.
};

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

/// Without what fills up its end.
std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace

void check_json_limits(std::string_view text, const std::string& where, const JsonLimits& limits) {
  std::size_t depth = 0, values = 0, spaces = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    // The library keeps them as it keeps a string.
    spaces = is_space(c) ? spaces + 1 : 0;
    if (spaces > limits.string_bytes)
      fail(where, format("has more than {} spaces in a row at byte {}", spaces - 1, i + 1));
    if (c == '"') {
      const std::size_t begin = ++i;
      for (; i < text.size() && text[i] != '"'; ++i) i += text[i] == '\\' ? 1 : 0;
      if (i - begin > limits.string_bytes) {
        fail(where,
             format("has a string of more than {} bytes at byte {}", limits.string_bytes, begin));
      }
      continue;
    }
    const bool opens = c == '[' || c == '{';
    if (opens && ++depth > limits.depth) {
      fail(where, format("has more than {} levels of nesting at byte {}", limits.depth, i + 1));
    }
    if ((opens || c == ',') && ++values > limits.values)
      fail(where, format("has more than {} values at byte {}", limits.values, i + 1));
    // One too many is the parser's to say.
    if ((c == ']' || c == '}') && depth > 0) --depth;
  }
}

void parse_json(std::string_view text, const std::string& where, const JsonLimits& limits,
                nlohmann::json_sax<Json>& handler) {
  text = trimmed(text);
  check_json_limits(text, where, limits);
  Json::sax_parse(text.begin(), text.end(), &handler);
}

Json parse_json(std::string_view text, const std::string& where, const JsonLimits& limits) {
  text = trimmed(text);
  Repeated repeated(where);
  parse_json(text, where, limits, repeated);
  return Json::parse(text.begin(), text.end());
}

const char* kind_of(const Json& value) {
  if (value.is_string()) return "a string";
  if (value.is_boolean()) return "true or false";
  if (value.is_number_float()) return "a fraction";
  if (value.is_number()) return "an integer";
  if (value.is_array()) return "a list";
  return value.is_object() ? "an object" : "null";
}

}  // namespace lapidary
