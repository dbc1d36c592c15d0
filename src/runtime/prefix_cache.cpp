#include "runtime/prefix_cache.h"

#include <algorithm>

namespace lapidary {

PrefixView PrefixView::first(std::size_t count) const {
  const auto within = [&](const PlacedPicture& picture) {
    return static_cast<std::size_t>(picture.begin + picture.count) <= count;
  };
  const auto end = std::ranges::find_if_not(pictures, within);
  return {ids.first(count), pictures.first(static_cast<std::size_t>(end - pictures.begin()))};
}

std::size_t common_prefix(const PrefixView& a, const PrefixView& b, std::size_t most) {
  const auto [end, other] = std::ranges::mismatch(a.ids, b.ids);
  std::size_t common = std::min(most, static_cast<std::size_t>(end - a.ids.begin()));
  for (std::size_t i = 0; i < a.pictures.size(); ++i) {
    const PlacedPicture& picture = a.pictures[i];
    const auto begin = static_cast<std::size_t>(picture.begin);
    if (begin >= common) break;
    const bool whole = begin + static_cast<std::size_t>(picture.count) <= common;
    if (!whole || i >= b.pictures.size() || b.pictures[i] != picture) common = begin;
  }
  return common;
}

std::size_t usable(const PageTable& table, std::size_t common) {
  return common > 0 && table.reaches_back(static_cast<int>(common)) ? common : 0;
}

void PrefixCache::keep(const PrefixView& prefix, const PageTable& table) {
  if (usable(table, prefix.ids.size()) == 0) return;
  const auto makes_useless = [&](const Entry& entry) {
    return entry.ids.size() <= prefix.ids.size() &&
           common_prefix(entry.view(), prefix, entry.ids.size()) == entry.ids.size() &&
           usable(table, entry.ids.size()) > 0;
  };
  const auto is_whole_in = [&](const Entry& entry) {
    return common_prefix(entry.view(), prefix, prefix.ids.size()) == prefix.ids.size() &&
           usable(entry.table, prefix.ids.size()) > 0;
  };
  if (std::ranges::any_of(entries_, is_whole_in)) return;
  entries_.remove_if(makes_useless);
  if (entries_.size() >= kMostEntries) entries_.pop_back();
  entries_.push_front({{prefix.ids.begin(), prefix.ids.end()},
                       {prefix.pictures.begin(), prefix.pictures.end()},
                       table});
}

bool PrefixCache::Match::offer(const PageTable& other, std::size_t positions) {
  common = std::max(common, positions);
  if (positions <= count || usable(other, positions) == 0) return false;
  count = positions;
  table = &other;
  return true;
}

PrefixCache::Match PrefixCache::find(const PrefixView& wanted, std::size_t most) {
  Match best;
  auto used = entries_.end();
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (best.offer(entry->table, common_prefix(wanted, entry->view(), most))) used = entry;
  }
  if (used != entries_.end()) entries_.splice(entries_.begin(), entries_, used);
  return best;
}

bool PrefixCache::drop_oldest() {
  if (entries_.empty()) return false;
  entries_.pop_back();
  return true;
}

}  // namespace lapidary
