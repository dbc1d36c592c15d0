#include "id_lines.h"

#include <utility>

namespace cli {

std::uint64_t id_key(const Json& id) {
  std::uint64_t hash = 0xcbf29ce484222325U;  // FNV-1a, and what mixes its bits (splitmix64).
  for (const char c : to_line(id)) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  hash = (hash ^ (hash >> 30U)) * 0xbf58476d1ce4e5b9U;
  hash = (hash ^ (hash >> 27U)) * 0x94d049bb133111ebU;
  return hash ^ (hash >> 31U);
}

std::size_t IdLines::find(std::uint64_t key) const {
  std::size_t at = key % keys_.size();
  while (lines_[at] != 0 && keys_[at] != key) at = at + 1 == keys_.size() ? 0 : at + 1;
  return at;
}

// By half: what is free takes memory too.
void IdLines::grow() {
  constexpr std::size_t kLeast = 64;
  const std::vector<std::uint64_t> keys = std::move(keys_);
  const std::vector<std::uint32_t> lines = std::move(lines_);
  const std::size_t size = kLeast + keys.size() + keys.size() / 2;
  keys_.assign(size, 0);
  lines_.assign(size, 0);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (lines[i] == 0) continue;
    const std::size_t at = find(keys[i]);
    keys_[at] = keys[i];
    lines_[at] = lines[i];
  }
}

std::uint32_t IdLines::first(std::uint64_t key, std::uint32_t line) {
  if (count_ >= keys_.size() / 5 * 4) grow();
  const std::size_t at = find(key);
  if (lines_[at] != 0) return lines_[at];
  keys_[at] = key;
  lines_[at] = line;
  ++count_;
  return line;
}

}  // namespace cli
