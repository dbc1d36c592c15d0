#include "text/cuts.h"

#include <algorithm>
#include <bit>
#include <unordered_set>

#include "lapidary/utf8.h"

namespace lapidary {
namespace {

constexpr std::uint32_t kSpaceMark = 0x2581;
constexpr std::uint32_t kInvalid = 0xFFFFFFFE;
constexpr std::size_t kLongestTried = 256;

std::uint32_t take_character(std::string_view& text) {
  const auto byte = static_cast<unsigned char>(text.front());
  if (byte < 0x80) {
    text.remove_prefix(1);
    return byte == ' ' ? kSpaceMark : byte;
  }
  const Utf8Step step = next_utf8(text);
  text.remove_prefix(step.bytes);
  return step.valid ? static_cast<std::uint32_t>(step.code_point) : kInvalid;
}

/// Whether SentencePiece takes an unused piece apart by how it was last put together anywhere in a
/// text: then one that can be put together in two ways ties the ends of a text to each other.
bool has_ambiguous_unused(std::span<const std::string_view> texts,
                          std::span<const TokenType> types) {
  if (std::ranges::find(types, TokenType::kUnused) == types.end()) return false;
  std::unordered_set<std::string_view> known;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (is_of_texts(types[i])) known.insert(texts[i]);
  }
  const auto is_symbol = [&](std::string_view part) {
    return known.contains(part) || next_utf8(part).bytes == part.size();
  };
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (types[i] != TokenType::kUnused) continue;
    const std::string_view text = texts[i];
    if (text.size() > kLongestTried) return true;  // Not looked at: the work grows with its square.
    int ways = 0;
    for (std::size_t at = 1; at < text.size(); ++at)
      ways += is_symbol(text.substr(0, at)) && is_symbol(text.substr(at)) ? 1 : 0;
    if (ways > 1) return true;
  }
  return false;
}

}  // namespace

Cuts::Cuts(std::span<const std::string_view> texts, std::span<const TokenType> types, bool newlines)
    : newlines_(newlines),
      bits_(std::max(6, static_cast<int>(std::bit_width(4 * texts.size())))),
      neighbours_((std::size_t{1} << bits_) / 64) {
  bool sure = !has_ambiguous_unused(texts, types);
  for (std::size_t i = 0; sure && i < texts.size(); ++i) {
    if (is_of_texts(types[i])) sure = add(texts[i]);
  }
  if (sure) return;
  std::ranges::fill(neighbours_, ~std::uint64_t{0});
  newlines_ = false;
}

// False where it holds part of a character, which could go with anything.
bool Cuts::add(std::string_view piece) {
  for (std::uint32_t before = kNone; !piece.empty();) {
    const std::uint32_t after = take_character(piece);
    if (after == kInvalid) return false;
    if (before != kNone) {
      const std::size_t bit = slot(before, after);
      neighbours_[bit / 64] |= std::uint64_t{1} << (bit % 64);
    }
    before = after;
  }
  return true;
}

// Multiplication by 2^64 divided by the golden ratio spreads neighbouring code points (Knuth).
std::size_t Cuts::slot(std::uint32_t before, std::uint32_t after) const {
  const std::uint64_t pair = std::uint64_t{before} << 32 | after;
  return static_cast<std::size_t>((pair * 0x9E3779B97F4A7C15U) >> (64 - bits_));
}

bool Cuts::may_cut(std::uint32_t before, std::uint32_t after) const {
  if (newlines_ && after == '\n' && before != '\n') return true;
  const std::size_t bit = slot(before, after);
  return (neighbours_[bit / 64] >> (bit % 64) & 1) == 0;
}

std::size_t Cuts::find(std::string_view text, std::size_t from) const {
  if (from >= text.size()) return text.size();
  // To the start of the character before, to know both sides of the first place.
  std::size_t at = from == 0 ? 0 : from - 1;
  while (at > 0 && is_continuation(text[at])) --at;
  std::string_view rest = text.substr(at);
  for (std::uint32_t before = kNone; !rest.empty();) {
    const std::size_t place = text.size() - rest.size();
    const std::uint32_t after = take_character(rest);
    if (place >= from && before != kNone && may_cut(before, after)) return place;
    before = after;
  }
  return text.size();
}

}  // namespace lapidary
