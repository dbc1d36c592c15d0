#include "runtime/snapshots.h"

#include <algorithm>
#include <iterator>

namespace lapidary {

namespace {

// Ages are counted from so many positions on: those at the end are about as young as each other.
constexpr int kYoung = 64;

/// How much weightier the loss of a snapshot is for why it was made.
double weight(SnapshotKind kind) {
  switch (kind) {
    case SnapshotKind::kInterval:
      return 1;
    case SnapshotKind::kTurn:
      return 4;
    case SnapshotKind::kPinned:
      return 1e6;
  }
  return 1;
}

}  // namespace

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

// The way back to what is in front of a snapshot grows by the gap that it leaves; how much that
// matters depends on how far back it is anyway.
bool Snapshots::drop_one() {
  if (all_.empty()) return false;
  const int end = last();
  auto least = all_.end();
  double least_loss = 0;
  for (auto it = all_.begin(); it != all_.end(); ++it) {
    const int before = it == all_.begin() ? 0 : std::prev(it)->position;
    const int behind = std::next(it) == all_.end() ? end : std::next(it)->position;
    const double loss = weight(it->kind) * (behind - before) / (end - it->position + kYoung);
    if (least == all_.end() || loss < least_loss) {
      least = it;
      least_loss = loss;
    }
  }
  all_.erase(least);
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
