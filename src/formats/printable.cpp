#include "formats/printable.h"

namespace lapidary {

std::string printable_value(std::string_view text) {
  constexpr std::size_t kMost = 200;
  const auto continues = [&](std::size_t i) {
    return (static_cast<unsigned char>(text[i]) & 0xC0U) == 0x80;
  };
  std::size_t end = text.size();
  if (end > kMost) {
    end = kMost;
    while (end > 0 && continues(end)) --end;
  }
  std::string line(text.substr(0, end));
  for (std::size_t i = 0; i < line.size(); ++i) {
    const auto byte = static_cast<unsigned char>(line[i]);
    // C1 controls are two bytes in UTF-8; the second alone is part of many other characters.
    const bool c1 =
        byte == 0xC2 && i + 1 < line.size() && static_cast<unsigned char>(line[i + 1]) < 0xA0;
    if (byte < 0x20 || byte == 0x7F) line[i] = ' ';
    if (c1) line[i] = line[i + 1] = '?';
  }
  return end < text.size() ? line + "…" : line;
}

}  // namespace lapidary
