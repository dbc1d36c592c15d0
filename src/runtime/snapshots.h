#pragma once

#include <cstdint>
#include <iterator>
#include <list>
#include <span>
#include <utility>
#include <vector>

#include "model/page_table.h"

namespace lapidary {

/// Why a snapshot was made: what was asked for stays longest.
enum class SnapshotKind { kInterval, kTurn, kPinned };

/// Which of [first, last), which have a position and a kind and are in order, will be missed least.
/// There is one.
template <class Iterator>
Iterator least_missed(Iterator first, Iterator last) {
  // Ages are counted from so many positions on: those at the end are about as young as each other.
  constexpr int kYoung = 64;
  const auto weight = [](SnapshotKind kind) {
    return kind == SnapshotKind::kInterval ? 1.0 : kind == SnapshotKind::kTurn ? 4.0 : 1e6;
  };
  const int end = std::prev(last)->position;
  Iterator least = last;
  double least_loss = 0;
  // The way back to what is in front of one grows by the gap that it leaves; how much that matters
  // depends on how far back it is anyway.
  for (Iterator it = first; it != last; ++it) {
    const int before = it == first ? 0 : std::prev(it)->position;
    const int behind = std::next(it) == last ? end : std::next(it)->position;
    const double loss = weight(it->kind) * (behind - before) / (end - it->position + kYoung);
    if (least == last || loss < least_loss) {
      least = it;
      least_loss = loss;
    }
  }
  return least;
}

/// The windows of local layers in front of some positions of one sequence, from where it can go on
/// again. They share pages with its table and with each other, and hold at most so many; when more
/// are made, distances between them grow with age. One thread at a time.
class Snapshots {
 public:
  struct Snapshot {
    int position;
    SnapshotKind kind;
    PageTable windows;
    std::vector<float> row;  // Hidden row of the id in front of it; empty: not known.
  };

  /// Positions between two that nobody asked for.
  static constexpr int kInterval = 512;

  /// Pages of one snapshot, at most.
  static std::int64_t pages_of_one(const Config& config, int context);

  explicit Snapshots(std::int64_t most_pages) : most_pages_(most_pages) {}

  /// Whether any are to be made.
  bool wanted() const { return most_pages_ > 0; }

  /// Of `table` at `position`, to which it reaches back; of one that is there, the stronger kind.
  void add(int position, SnapshotKind kind, const PageTable& table, std::span<const float> row);

  /// The position of the last one, 0 without any.
  int last() const { return all_.empty() ? 0 : all_.back().position; }

  /// The last one at `position` or in front of it; nullptr: none.
  const Snapshot* before(int position) const;

  /// Forgets those behind `position`.
  void cut(int position);

  /// Forgets the one that will be missed least; false: there is none.
  bool drop_one();
  void clear() { all_.clear(); }

  /// Takes one that was made elsewhere, behind all that are there.
  void put(Snapshot snapshot) { all_.push_back(std::move(snapshot)); }

  /// Takes what `other` has, too.
  void share(const Snapshots& other) {
    all_.insert(all_.end(), other.all_.begin(), other.all_.end());
  }

  /// In order of their positions.
  const std::list<Snapshot>& all() const { return all_; }
  std::int64_t most_pages() const { return most_pages_; }

 private:
  std::int64_t pages() const;

  std::int64_t most_pages_;
  std::list<Snapshot> all_;
};

}  // namespace lapidary
