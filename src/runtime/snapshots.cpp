#include "runtime/snapshots.h"

#include <algorithm>

namespace lapidary {

std::int64_t Snapshots::pages_of_one(const Config& config, int context) {
  std::int64_t pages = 0;
  for (const bool local : config.local) pages += local ? layer_pages(config, true, context, 0) : 0;
  return pages;
}

void Snapshots::add(int position, SnapshotKind kind, const PageTable& table,
                    std::span<const float> row) {
  auto next = std::ranges::find_if(all_, [&](const Snapshot& s) { return s.position >= position; });
  if (next != all_.end() && next->position == position) {
    next->kind = std::max(next->kind, kind);
    if (next->row.empty()) next->row.assign(row.begin(), row.end());
    return;
  }
  all_.insert(next, {position, kind, table.windows(position), {row.begin(), row.end()}});
  while (pages() > most_pages_) drop_one();
}

const Snapshots::Snapshot* Snapshots::before(int position) const {
  const Snapshot* found = nullptr;
  for (const Snapshot& snapshot : all_) {
    if (snapshot.position <= position) found = &snapshot;
  }
  return found;
}

void Snapshots::cut(int position) {
  while (!all_.empty() && all_.back().position > position) all_.pop_back();
}

bool Snapshots::drop_one() {
  if (all_.empty()) return false;
  all_.erase(least_missed(all_.begin(), all_.end()));
  return true;
}

/// Different pages that are held.
std::int64_t Snapshots::pages() const {
  std::vector<PageId> held;
  for (const Snapshot& snapshot : all_) snapshot.windows.list_pages(held);
  std::sort(held.begin(), held.end());
  return std::unique(held.begin(), held.end()) - held.begin();
}

}  // namespace lapidary
