// What a sequence takes of what was computed before, and leaves for others.
#include <algorithm>
#include <new>

#include "runtime/sequence.h"

namespace lapidary {

namespace {

// Questions about a text lie behind it: places are written at these distances from the end of a
// prompt, so that the next one, which parts from it nobody knows where, computes little again.
constexpr int kNearestPlace = 64, kPlaceRatio = 4;

}  // namespace

PrefixView Sequence::computed_prefix() const {
  return PrefixView{ids, pictures_}.first(static_cast<std::size_t>(computed));
}

/// What is in memory of the ids but the last, whose row is needed.
PrefixCache::Match Sequence::find_kept() {
  if (!engine->plan.reuse) return {};
  return engine->find(*this, {ids, pictures_}, ids.size() - 1);
}

/// Goes on behind what the engine has of these ids already, or the disk where that is more.
void Sequence::reuse() {
  if (!engine->shares() || ids.empty()) return;
  PrefixCache::Match found = find_kept();
  if (take_stored(found.count)) found = find_kept();  // Its pages may have made room.
  const auto done = static_cast<std::size_t>(computed);
  if (found.count > done) {
    table.share(*found.table, static_cast<int>(found.count));
    engine->reused_tokens += found.count - done;
    computed = cached = static_cast<int>(found.count);
    ahead_ = {};
  }
  if (found.common >= static_cast<std::size_t>(computed) + kWorthKeeping)
    keep_at(static_cast<int>(found.common));
}

/// Takes what the disk has, if that is more than what is computed and the `kept` positions in
/// memory. True: the table is another one.
bool Sequence::take_stored(std::size_t kept) {
  const std::size_t there = std::max(static_cast<std::size_t>(computed), kept);
  if (engine->disk == nullptr || ids.size() <= there + kWorthReading) return false;
  PrefixDisk::Taken taken;
  try {
    taken = engine->disk->take({ids, pictures_}, ids.size() - 1, there + kWorthReading, table,
                               engine->team);
  } catch (const std::bad_alloc&) {  // A help, no promise.
    return false;
  }
  stored_ = taken.stored;
  const bool changed = taken.count > 0 || taken.spoilt;
  if (taken.count > 0) engine->reused_tokens += taken.count - static_cast<std::size_t>(computed);
  if (changed) {
    computed = cached = static_cast<int>(taken.count);
    ahead_ = {};
  }
  if (taken.common >= stored_ + kWorthKeeping) store_at(static_cast<int>(taken.common));
  return changed;
}

void Sequence::keep_at(int count) {
  if (engine->plan.reuse) keep_at_.push_back(count);
  if (static_cast<std::size_t>(count) >= stored_ + kWorthKeeping) store_at(count);
}

void Sequence::store_at(int count) {
  if (engine->disk != nullptr && count > computed) store_at_.push_back(count);
}

/// Places at growing distances from the end, as far as that is much behind what is on disk.
void Sequence::store_before_end() {
  for (std::size_t distance = kNearestPlace; distance < ids.size(); distance *= kPlaceRatio) {
    const int place = begin_of_last(ids.size() - distance + 1);
    if (static_cast<std::size_t>(place) < stored_ + kWorthWriting) return;
    store_at(place);
  }
}

void Sequence::store_end(std::size_t worth) {
  if (engine->disk == nullptr || ids.empty()) return;
  const int end = begin_of_last(ids.size());  // What is asked again goes on from here.
  if (static_cast<std::size_t>(end) < stored_ + worth) return;
  engine->store(PrefixView{ids, pictures_}.first(static_cast<std::size_t>(end)), table);
  stored_ = static_cast<std::size_t>(end);
}

}  // namespace lapidary
