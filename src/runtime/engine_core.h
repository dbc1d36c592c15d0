#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "base/team.h"
#include "lapidary/engine.h"
#include "model/decoder.h"
#include "runtime/engine_plan.h"
#include "runtime/prefix_cache.h"
#include "runtime/prefix_disk.h"
#include "runtime/row_logits.h"
#include "runtime/sampler.h"

namespace lapidary {

class Sequence;

/// What computes for any number of sequences, and what they share. Everything but `model`, `plan`
/// and `team.threads()` belongs to whoever has a Turn.
class EngineCore {
 public:
  /// Throws Error(kMemory), Error(kFailed) when there are not as many threads.
  EngineCore(const Model& model, const EnginePlan& plan, int threads);
  ~EngineCore();
  EngineCore(const EngineCore&) = delete;
  EngineCore& operator=(const EngineCore&) = delete;

  /// One pass. Throws as Decoder::forward does.
  void forward(std::span<const Piece> pieces, const std::atomic<bool>* cancel);

  /// Pages that begin as `wanted` does, of which at most `most` positions may be taken: what is
  /// kept, and what other sequences have computed.
  PrefixCache::Match find(const Sequence& asking, const PrefixView& wanted, std::size_t most);

  EngineStats stats() const;

  /// May be called from any thread.
  PrefixCacheStats prefix_cache() const {
    return disk == nullptr ? PrefixCacheStats{} : disk->stats();
  }

  /// Whether anything computed before can be there for a prompt.
  bool shares() const { return plan.reuse || disk != nullptr; }

  /// Has `prefix`, which `table` has computed, written to the prefix cache on disk, if there is
  /// one, at the next write_place().
  void store(const PrefixView& prefix, const PageTable& table);
  /// Writes what was stored first and is not written yet; false: there is nothing. Takes a turn of
  /// its own.
  bool write_place() noexcept;
  void write_places() noexcept;

  const Model model;
  const EnginePlan plan;
  Team team;
  KvPool pool;
  Decoder decoder;
  RowLogits logits;
  std::vector<Sampler> samplers;     // One a thread; the first is of whoever draws alone.
  PrefixCache kept;                  // Where plan.reuse.
  std::unique_ptr<PrefixDisk> disk;  // Where the plan has one. Does not belong to a turn.
  std::list<StoredPlace> places;     // To be written there.
  std::vector<Sequence*> sequences;  // All that there are.
  std::uint64_t passes = 0;
  std::uint64_t computed_tokens = 0;
  std::uint64_t reused_tokens = 0;

 private:
  friend class Turn;
  bool drop_snapshot();
  bool drop_place();
  bool trim_idle();

  std::span<const Piece> passing_;  // Of the pass under way.
  const pid_t process_ = ::getpid();
  mutable std::mutex mutex_;
  std::atomic<std::thread::id> turn_{};  // Whose it is.
};

/// The right to use an engine, which one thread has at a time. Waits for it; not where the engine
/// is one session's, which is in one thread's hands anyway.
class Turn {
 public:
  /// Throws Error(kUsage) when the calling thread has it already: a callback within a pass.
  explicit Turn(const EngineCore& engine);
  /// For what only lets go, and may come within another turn of the same thread, or in the child of
  /// a fork, where whoever had the turn is not.
  struct Within {};
  Turn(const EngineCore& engine, Within) noexcept;
  ~Turn();
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  bool had_by_caller() const;
  void take();

  EngineCore& engine_;
  bool taken_ = false;
};

}  // namespace lapidary
