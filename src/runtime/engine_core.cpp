#include "runtime/engine_core.h"

#include <algorithm>
#include <new>
#include <utility>

#include "lapidary/error.h"
#include "runtime/model_impl.h"
#include "runtime/sequence.h"

namespace lapidary {

EngineCore::EngineCore(const Model& shared, const EnginePlan& settled, int threads)
    : model(shared),
      plan(settled),
      team(threads),
      pool(model.impl().config, plan.format, plan.pages),
      decoder(*model.impl().weights, team, plan.context, plan.longest_pass),
      logits(decoder, model.info().vocabulary, plan.logit_rows) {
  for (int i = 0; i < plan.samplers; ++i) samplers.emplace_back(model.info().vocabulary);
  if (!plan.prefix_cache.empty()) {
    disk = std::make_unique<PrefixDisk>(plan.prefix_cache, plan.prefix_cache_size,
                                        KvIdentity(model.impl().fingerprint, pool),
                                        model.impl().config);
  }
  pool.on_shortage(
      [this] { return kept.drop_oldest() || drop_snapshot() || trim_idle() || drop_place(); });
  pool.promise(plan.passing_pages);
}

EngineCore::~EngineCore() {
  write_places();
  places.clear();
  kept.clear();
}

bool EngineCore::drop_snapshot() {
  return std::ranges::any_of(sequences,
                             [](Sequence* sequence) { return sequence->snapshots.drop_one(); });
}

bool EngineCore::drop_place() {
  if (places.empty()) return false;
  places.pop_front();
  return true;
}

void EngineCore::store(const PrefixView& prefix, const PageTable& table) {
  const int count = static_cast<int>(prefix.ids.size());
  if (disk == nullptr || count == 0 || !table.reaches_back(count)) return;
  try {
    StoredPlace place{{prefix.ids.begin(), prefix.ids.end()},
                      {prefix.pictures.begin(), prefix.pictures.end()},
                      PageTable(pool, model.impl().config, 0, 0)};
    place.table.share(table, count);
    places.push_back(std::move(place));
  } catch (const std::bad_alloc&) {  // A help, no promise.
  }
}

bool EngineCore::write_place() noexcept {
  // Kept while it writes: nobody lets go of these pages then, which others could come to need.
  const Turn turn(*this, Turn::Within{});
  std::list<StoredPlace> place;
  if (places.empty() || process_ != ::getpid()) return false;
  place.splice(place.end(), places, places.begin());
  disk->write(place.front());
  return true;
}

void EngineCore::write_places() noexcept {
  while (write_place()) {
  }
}

/// A sequence that is not in the pass under way may still hold what its last pass has left.
bool EngineCore::trim_idle() {
  const auto idle = [&](const Sequence* sequence) {
    return std::ranges::find(passing_, &sequence->table, &Piece::table) == passing_.end();
  };
  if (passing_.empty()) return false;
  bool trimmed = false;
  for (Sequence* sequence : sequences) {
    if (idle(sequence))
      trimmed |=
          sequence->table.trim(sequence->computed + static_cast<int>(sequence->ahead().size()));
  }
  return trimmed;
}

void EngineCore::forward(std::span<const Piece> pieces, const std::atomic<bool>* cancel) {
  struct Passing {
    std::span<const Piece>& pieces;
    ~Passing() { pieces = {}; }
  } passing{passing_ = pieces};
  decoder.forward(pieces, cancel);
  passes += 1;
  for (const Piece& piece : pieces) computed_tokens += piece.ids.size();
}

PrefixCache::Match EngineCore::find(const Sequence& asking, const PrefixView& wanted,
                                    std::size_t most) {
  PrefixCache::Match best = kept.find(wanted, most);
  for (const Sequence* other : sequences) {
    if (other != &asking)
      best.offer(other->table, common_prefix(wanted, other->computed_prefix(), most));
  }
  return best;
}

EngineStats EngineCore::stats() const {
  EngineStats stats;
  const std::uint64_t page = pool.page_bytes();
  stats.kv_bytes = plan.kv_bytes;
  stats.kv_used_bytes = static_cast<std::uint64_t>(pool.used()) * page;
  std::int64_t of_sequences = 0;
  for (const Sequence* sequence : sequences) of_sequences += sequence->table.pages();
  stats.kv_kept_bytes =
      static_cast<std::uint64_t>(std::max<std::int64_t>(0, pool.used() - of_sequences)) * page;
  stats.buffer_bytes = plan.buffer_bytes;
  stats.passes = passes;
  stats.computed_tokens = computed_tokens;
  stats.reused_tokens = reused_tokens;
  return stats;
}

Turn::Turn(const EngineCore& engine) : engine_(const_cast<EngineCore&>(engine)) {
  if (had_by_caller()) {
    throw Error(ErrorCode::kUsage, "the engine is in use by the call that this one is called from");
  }
  take();
}

Turn::Turn(const EngineCore& engine, Within) noexcept : engine_(const_cast<EngineCore&>(engine)) {
  if (!had_by_caller() && engine_.process_ == ::getpid()) take();
}

Turn::~Turn() {
  if (!taken_) return;
  engine_.turn_.store({}, std::memory_order_relaxed);
  engine_.mutex_.unlock();
}

bool Turn::had_by_caller() const {
  return engine_.turn_.load(std::memory_order_relaxed) == std::this_thread::get_id();
}

void Turn::take() {
  if (!engine_.plan.shared) return;
  engine_.mutex_.lock();
  engine_.turn_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  taken_ = true;
}

}  // namespace lapidary
