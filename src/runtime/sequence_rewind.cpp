// Where a sequence can go back to, and how.
#include <algorithm>
#include <new>

#include "base/format.h"
#include "lapidary/error.h"
#include "runtime/model_impl.h"
#include "runtime/sequence.h"
#include "runtime/speculator.h"

namespace lapidary {

Sequence::Sequence(Fork, const Sequence& other) : Sequence(other.engine, other.plan) {
  const Turn turn(*engine);
  ids.insert(ids.end(), other.ids.begin(), other.ids.end());
  computed = other.computed;
  cached = other.computed;
  images_ = other.images_;
  features_ = other.features_;
  pictures_ = other.pictures_;
  table.share(other.table);
  snapshots.share(other.snapshots);
  const auto width = static_cast<std::size_t>(engine->model.info().width);
  if (other.computed > 0 && other.has_row(other.computed - 1)) {
    const HiddenRow last = other.last_row();
    take_row({last.values, width}, computed);
    hidden_number_ = last.number;  // Its logits may be there.
  }
}

void Sequence::take_snapshot(SnapshotKind kind) {
  if (!snapshots.wanted() || computed == 0 || !table.reaches_back(computed)) return;
  std::span<const float> row;
  if (has_row(computed - 1))
    row = {this->row(computed - 1).values, static_cast<std::size_t>(engine->model.info().width)};
  try {
    snapshots.add(computed, kind, table, row);
  } catch (const std::bad_alloc&) {  // A help, no promise.
  }
}

/// Where the last of the first `count` ids begins: a picture is computed as a whole.
int Sequence::begin_of_last(std::size_t count) const {
  const int last = static_cast<int>(count) - 1;
  for (const PlacedPicture& picture : pictures_) {
    if (picture.begin <= last && last < picture.begin + picture.count) return picture.begin;
  }
  return last;
}

/// Forgets the pictures that do not lie within the first `count` ids.
void Sequence::drop_pictures(std::size_t count) {
  while (!pictures_.empty() &&
         static_cast<std::size_t>(pictures_.back().begin + pictures_.back().count) > count) {
    images_.pop_back();
    features_.pop_back();
    pictures_.pop_back();
  }
}

void Sequence::rewind(std::size_t count) {
  if (count >= ids.size()) return;
  for (const PlacedPicture& picture : pictures_) {
    const int end = picture.begin + picture.count, at = static_cast<int>(count);
    if (at <= picture.begin || at >= end) continue;
    throw Error(ErrorCode::kUsage, format("position {} lies within the picture at {} to {}", at,
                                          picture.begin, end - 1));
  }
  const Turn turn(*engine);
  ids.resize(count);
  drop_pictures(count);
  keep_at_.clear();
  store_at_.clear();
  stored_ = std::min(stored_, count);
  ahead_ = {};
  hidden_count_ = std::clamp(static_cast<int>(count) - hidden_begin_, 0, hidden_count_);
  snapshots.cut(static_cast<int>(count));
  go_back(static_cast<int>(count));
  cached = computed;
  if (speculator != nullptr) speculator->rewind(count);
}

/// Whether what is in the table now leads to the first `count` positions.
bool Sequence::go_on_from_here(int count) const {
  return computed <= count ? table.leads_to(count) : table.reaches_back(count);
}

/// Where to begin so that all windows are right at `count`, and kMostRewind before.
int Sequence::windows_begin(int count) const {
  const int begin = count - kMostRewind - windows_length(engine->model.impl().config);
  return begin <= 0 ? 0 : begin_of_last(static_cast<std::size_t>(begin) + 1);
}

/// Makes the table and `computed` those of the nearest place from where the first `count` ids can
/// be reached, the row of the last of them included.
void Sequence::go_back(int count) {
  if (count == 0) {
    table.clear();
    computed = 0;
    return;
  }
  const int known = std::max(computed, table.global_end());
  const Snapshots::Snapshot* snapshot = snapshots.before(std::min(count, known));
  const bool has_row = count <= computed && this->has_row(count - 1);
  const bool kept_row = snapshot && snapshot->position == count && !snapshot->row.empty();
  if (!has_row && kept_row) {
    take_row(snapshot->row, count);
  } else if (!has_row) {
    count = begin_of_last(static_cast<std::size_t>(count));
    snapshot = snapshots.before(std::min(count, known));
  }
  table.cut(count);
  const int reach = std::min(count, known);
  const int here = go_on_from_here(count) ? std::min(computed, count) : -1;
  const int kept = snapshot ? snapshot->position : 0;
  const int fresh = windows_begin(reach);
  if (here >= std::max(kept, fresh)) {
    computed = here;
  } else if (snapshot && kept >= fresh) {
    table.restore(snapshot->windows, kept);
    computed = kept;
  } else {
    table.begin_windows(fresh, reach);
    computed = fresh;
  }
  take_kept(count);
}

/// Takes what the engine has kept of the first `count` ids, if that is more than what is there.
void Sequence::take_kept(int count) {
  if (!engine->plan.reuse) return;
  const PrefixCache::Match found =
      engine->find(*this, PrefixView{ids, pictures_}, static_cast<std::size_t>(count));
  if (static_cast<int>(found.count) <= computed) return;
  table.share(*found.table, static_cast<int>(found.count));
  computed = static_cast<int>(found.count);
}

/// Makes `row` that of the last of the first `count` ids.
void Sequence::take_row(std::span<const float> row, int count) {
  std::ranges::copy(row, hidden_.begin());
  hidden_begin_ = count - 1;
  hidden_count_ = 1;
  hidden_number_ = number_rows(1);
}

}  // namespace lapidary
