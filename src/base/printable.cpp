#include "base/printable.h"

#include "lapidary/utf8.h"

namespace lapidary {

namespace {

constexpr std::string_view kCut = "…";

bool is_control(char32_t c) { return c < 0x20 || (c >= 0x7F && c < 0xA0); }

/// Turns the direction of what is written behind it, or ends a line.
bool turns_or_breaks(char32_t c) {
  return c == 0x061C || c == 0x200E || c == 0x200F || (c >= 0x2028 && c <= 0x202E) ||
         (c >= 0x2066 && c <= 0x2069);
}

bool prints(const Utf8Step& step) {
  return step.valid && !is_control(step.code_point) && !turns_or_breaks(step.code_point);
}

std::string cleaned(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = next_utf8(text);
    if (prints(step)) {
      out += text.substr(0, step.bytes);
    } else {
      out += step.valid && step.code_point < 0x80 ? ' ' : '?';
    }
    text.remove_prefix(step.bytes);
  }
  return out;
}

/// The longest beginning of at most `most` bytes that ends between characters.
std::string_view beginning(std::string_view text, std::size_t most) {
  if (text.size() <= most) return text;
  while (most > 0 && is_continuation(text[most])) --most;
  return text.substr(0, most);
}

std::string_view ending(std::string_view text, std::size_t most) {
  if (text.size() <= most) return text;
  std::size_t from = text.size() - most;
  while (from < text.size() && is_continuation(text[from])) ++from;
  return text.substr(from);
}

}  // namespace

bool is_printable(std::string_view text, std::size_t most) {
  if (text.size() > most) return false;
  while (!text.empty()) {
    const Utf8Step step = next_utf8(text);
    if (!prints(step)) return false;
    text.remove_prefix(step.bytes);
  }
  return true;
}

std::string printable_value(std::string_view text, std::size_t most) {
  if (text.size() <= most) return cleaned(text);
  return cleaned(beginning(text, most - kCut.size())).append(kCut);
}

std::string printable_line(std::string_view text) {
  if (text.size() <= kMostOfALine) return cleaned(text);
  constexpr std::size_t kHalf = (kMostOfALine - kCut.size()) / 2;
  return cleaned(beginning(text, kHalf)).append(kCut) + cleaned(ending(text, kHalf));
}

}  // namespace lapidary
