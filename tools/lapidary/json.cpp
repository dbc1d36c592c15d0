#include "json.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <vector>

#include "lapidary/utf8.h"
#include "text.h"

namespace cli {

namespace {

// Counts what the JSON library would build of a text before it builds any of it.
class Limits {
 public:
  explicit Limits(int most_values) : most_values_(most_values) {}

  // Whether the text goes beyond a limit at `c`, which stands outside strings. Whatever else is
  // wrong with it, the parser will say.
  bool operator()(char c, int depth) {
    const bool opens = c == '[' || c == '{';
    if (opens && depth >= kMaxJsonDepth) return beyond(kMaxJsonDepth, "levels of nesting");
    if ((opens || c == ',') && ++values_ > most_values_)
      return beyond(most_values_, "brackets and commas");
    const auto level = static_cast<std::size_t>(std::max(depth, 0));
    if (opens) members_[level + 1] = c == '{' ? 1 : kOfNoObject;
    const bool another = c == ',' && members_[level] != kOfNoObject;
    return another && ++members_[level] > kMaxJsonMembers &&
           beyond(kMaxJsonMembers, "members in one object");
  }
  const std::string& what() const { return what_; }

 private:
  static constexpr int kOfNoObject = -1;

  bool beyond(int limit, const char* of_what) {
    what_ = format("more than %d %s", limit, of_what);
    return true;
  }

  int most_values_;
  int values_ = 1;
  std::array<int, kMaxJsonDepth + 1> members_{kOfNoObject};  // Of the object open at each level.
  std::string what_;
};

// Finds a name that stands twice in one object: the parser would keep one of the two values and say
// nothing. (Its own callbacks would do for this, but they make it walk through every list again at
// each of its objects.)
class Repeated : public nlohmann::json_sax<Json> {
 public:
  const std::optional<std::string>& name() const { return name_; }

  bool start_object(std::size_t /*size*/) override {
    open_.emplace_back();
    return true;
  }
  bool end_object() override {
    open_.pop_back();
    return true;
  }
  bool key(std::string& name) override {
    if (!open_.back().insert(name).second && !name_) name_ = quoted(Json(name));
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
  // What is wrong is said when the value is built.
  bool parse_error(std::size_t /*byte*/, const std::string& /*token*/,
                   const Json::exception& /*error*/) override {
    return false;
  }

 private:
  std::vector<std::set<std::string>> open_;  // Names so far in each object that is open.
  std::optional<std::string> name_;
};

}  // namespace

Json parse_json(std::string_view text, std::string& error, int most_values) {
  Limits limits(most_values);
  const std::size_t at = find_in_json(text, std::ref(limits));
  if (at != std::string_view::npos) {
    error = "too large: it has " + limits.what() + " at byte " + std::to_string(at + 1);
    return Json(Json::value_t::discarded);
  }
  try {
    Repeated repeated;
    const bool valid = Json::sax_parse(text, &repeated);
    if (!valid || !repeated.name()) return Json::parse(text);
    error = "ambiguous: it has " + *repeated.name() + " twice in one object";
  } catch (const Json::parse_error& failure) {
    error = "not valid JSON at byte " + std::to_string(failure.byte);
  } catch (const Json::exception&) {
    error = "not valid JSON: it has a number beyond 1.8e308";
  }
  return Json(Json::value_t::discarded);
}

std::size_t json_reserve(std::string_view text) {
  // Destroyed values wait in a list, which doubles as it grows; none has less than a byte of text.
  constexpr std::size_t kBytesOfOne = 2 * sizeof(Json);
  return kBytesOfOne * std::min<std::size_t>(text.size() + 1, kMaxJsonValues);
}

std::string to_line(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string shortened(std::string_view text, std::size_t most) {
  if (text.size() <= most) return std::string(text);
  std::size_t end = most;
  while (end > 0 && lapidary::is_continuation(text[end])) --end;
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
