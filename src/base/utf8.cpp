#include "lapidary/utf8.h"

#include <algorithm>
#include <cstdint>

namespace lapidary {
namespace {

/// What a lead byte announces: the length, and the range that the second byte must lie in (table
/// 3-7 of the Unicode standard); the others lie in 80…BF. Length 0: no lead byte.
struct Lead {
  std::size_t length;
  std::uint8_t second_low;
  std::uint8_t second_high;
};

Lead lead_of(std::uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

Utf8Step next_utf8(std::string_view text) {
  const auto byte = [text](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  constexpr char32_t kReplacement = 0xFFFD;
  const Lead lead = lead_of(byte(0));
  if (lead.length == 0) return {1, kReplacement, false, false};
  if (lead.length == 1) return {1, byte(0), true, false};
  char32_t code_point = byte(0) & (0x7FU >> lead.length);
  for (std::size_t i = 1; i < lead.length; ++i) {
    if (i == text.size()) return {i, kReplacement, false, true};
    const std::uint8_t low = i == 1 ? lead.second_low : 0x80;
    const std::uint8_t high = i == 1 ? lead.second_high : 0xBF;
    if (byte(i) < low || byte(i) > high) return {i, kReplacement, false, false};
    code_point = code_point << 6 | (byte(i) & 0x3FU);
  }
  return {lead.length, code_point, true, false};
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 8);
  while (!text.empty()) {
    const Utf8Step step = next_utf8(text);
    if (step.valid) {
      out.append(text.substr(0, step.bytes));
    } else {
      out.append("\xEF\xBF\xBD");
    }
    text.remove_prefix(step.bytes);
  }
  return out;
}

std::optional<std::size_t> find_invalid_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = next_utf8(text.substr(at));
    if (!step.valid) return at;
    at += step.bytes;
  }
  return std::nullopt;
}

std::size_t incomplete_utf8_suffix(std::string_view text) {
  const std::size_t longest = std::min<std::size_t>(3, text.size());
  for (std::size_t n = 1; n <= longest; ++n) {
    const auto byte = static_cast<std::uint8_t>(text[text.size() - n]);
    if (byte >= 0x80 && byte < 0xC0) continue;  // Inside of a character: look for its lead byte.
    const Utf8Step step = next_utf8(text.substr(text.size() - n));
    return step.cut ? n : 0;
  }
  return 0;
}

}  // namespace lapidary
