#include "suggest.h"

#include <algorithm>
#include <cctype>
#include <numeric>
#include <vector>

namespace cli {

namespace {

// Insertions, removals and replacements of letters that turn `a` into `b` (Levenshtein).
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

// Case and '-' against '_' are no slips.
std::string plain(std::string_view word) {
  std::string text(word);
  for (char& c : text)
    c = c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

}  // namespace

std::string nearest(std::string_view word, std::span<const std::string> names) {
  constexpr std::size_t kLongest = 64;  // What is longer is no slip of a name.
  if (word.size() > kLongest) return {};
  std::size_t best = std::max<std::size_t>(1, word.size() / 3) + 1;
  constexpr std::size_t kTelling = 4;  // Letters of a beginning that tell enough.
  const std::string wanted = plain(word);
  std::string found, begins;
  for (const std::string& name : names) {
    const std::string other = plain(name);
    const std::size_t far = distance(wanted, other);
    const bool shared = std::min(wanted.size(), other.size()) >= kTelling &&
                        (wanted.starts_with(other) || other.starts_with(wanted));
    if (shared && begins.empty()) begins = name;
    if (far >= best) continue;
    best = far;
    found = name;
  }
  return found.empty() ? begins : found;
}

}  // namespace cli
