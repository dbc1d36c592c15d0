#include "json.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <vector>

namespace cli {

namespace {

// Offset of the bracket that opens one level too many; npos when there is none. Whatever else is
// wrong, the parser will say.
std::size_t find_too_deep(std::string_view text) {
  return find_in_json(
      text, [](char c, int depth) { return (c == '[' || c == '{') && depth >= kMaxJsonDepth; });
}

// Finds a name that stands twice in one object: the parser would keep one of the two values and say
// nothing.
class Repeated {
 public:
  bool operator()(int /*depth*/, Json::parse_event_t event, const Json& parsed) {
    if (event == Json::parse_event_t::object_start) open_.emplace_back();
    if (event == Json::parse_event_t::object_end) open_.pop_back();
    if (event == Json::parse_event_t::key && !open_.back().insert(parsed).second && !name_)
      name_ = quoted(parsed);
    return true;
  }
  const std::optional<std::string>& name() const { return name_; }

 private:
  std::vector<std::set<std::string>> open_;  // Names so far in each object that is open.
  std::optional<std::string> name_;
};

}  // namespace

Json parse_json(std::string_view text, std::string& error) {
  if (const std::size_t at = find_too_deep(text); at != std::string_view::npos) {
    error = "nested deeper than " + std::to_string(kMaxJsonDepth) + " levels at byte " +
            std::to_string(at + 1);
    return Json(Json::value_t::discarded);
  }
  try {
    Repeated repeated;
    Json value = Json::parse(text, std::ref(repeated));
    if (!repeated.name()) return value;
    error = "ambiguous: it has " + *repeated.name() + " twice in one object";
  } catch (const Json::parse_error& failure) {
    error = "not valid JSON at byte " + std::to_string(failure.byte);
  } catch (const Json::exception&) {
    error = "not valid JSON: it has a number beyond 1.8e308";
  }
  return Json(Json::value_t::discarded);
}

std::string to_line(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string shortened(std::string_view text, std::size_t most) {
  if (text.size() <= most) return std::string(text);
  std::size_t end = most;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return std::string(text.substr(0, end)) + "…";
}

std::string fingerprint(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  std::string digits(16, '0');
  for (std::size_t i = digits.size(); i-- > 0; hash >>= 4U)
    digits[i] = "0123456789abcdef"[hash & 15U];
  return digits;
}

std::string quoted(const Json& value) {
  // A long string is cut before it is written: the rest may be megabytes.
  if (value.is_string()) return to_line(shortened(value.get_ref<const std::string&>()));
  return shortened(to_line(value));
}

}  // namespace cli
