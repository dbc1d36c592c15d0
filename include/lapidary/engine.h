#pragma once

// One engine, many sequences: what computes, and what they share.

#include <cstdint>
#include <memory>
#include <string>

#include "lapidary/export.h"
#include "lapidary/model.h"
#include "lapidary/session.h"

namespace lapidary {

class EngineCore;

/// How an engine computes, and what it may take.
struct EngineOptions {
  int threads = 0;  ///< 0: physical cores within the cgroup's quota and affinity.
  int pass = 512;   ///< Most tokens that are computed together, of whatever sequences. Changes
                    ///< speed and memory, never a bit.
  int context = 0;  ///< Most tokens of any of its sequences, up to 268,435,456; 0: the smaller of
                    ///< what the model was trained for and 32,768.
  KvType kv = KvType::kBf16;    ///< How the keys and values of all sequences are kept.
  std::uint64_t kv_memory = 0;  ///< Bytes of keys and values of all sequences and of what is kept
                                ///< for reuse; 0: room for one whole context, and more where a
                                ///< quarter of what may be taken is more.
  bool reuse = true;  ///< Keep what was computed, the longest unused dropped first, for prompts
                      ///< that begin alike. Changes speed, never a bit.
  std::uint64_t memory_limit = 0;  ///< Bytes for weights, keys and values, and buffers; 0: what the
                                   ///< machine has available.
  std::string prefix_cache = {};   ///< A folder that processes share, as SessionOptions has it.
  std::uint64_t prefix_cache_size = 0;  ///< Most bytes of it, as SessionOptions has it.
};

/// What an engine holds and has done.
struct EngineStats {
  std::uint64_t kv_bytes = 0;         ///< Most bytes that keys and values may take.
  std::uint64_t kv_used_bytes = 0;    ///< Of those, held by sequences and for reuse.
  std::uint64_t kv_kept_bytes = 0;    ///< Of those, held for reuse alone.
  std::uint64_t buffer_bytes = 0;     ///< Everything else that the engine takes, at most.
  std::uint64_t passes = 0;           ///< Over the weights.
  std::uint64_t computed_tokens = 0;  ///< In these.
  std::uint64_t reused_tokens = 0;    ///< That prompts did not have to compute.
};

/// Threads, work buffers and the memory of keys and values, shared by any number of sessions
/// (Session's constructor) and schedulers. A handle: copies are the same engine, which lives as
/// long as one of them or a session on it does. Sessions of one engine may be used from several
/// threads: they take turns, one pass at a time. Empty ones are as Session's.
class LAPIDARY_API Engine {
 public:
  Engine() noexcept;  ///< An empty one.

  /// Reserves the memory of keys and values, which is taken as it fills, and checks it against the
  /// budget. Throws Error(kMemory) with the bytes needed, Error(kUsage) for options out of range,
  /// Error(kFailed) when not as many threads can be made as asked.
  explicit Engine(const Model& model, const EngineOptions& options = {});
  ~Engine();
  Engine(const Engine&) noexcept;             ///< The same engine.
  Engine& operator=(const Engine&) noexcept;  ///< The same engine.
  Engine(Engine&&) noexcept;                  ///< Leaves an empty one.
  Engine& operator=(Engine&&) noexcept;       ///< Leaves an empty one.

  /// Whether this is an engine, not an empty one.
  explicit operator bool() const noexcept { return core_ != nullptr; }

  const Model& model() const;  ///< As long as the engine is there.
  int threads() const;         ///< That compute, the calling one included.
  int context() const;         ///< Most tokens of a sequence.
  EngineStats stats() const;   ///< As of now. May be called from any thread.
  void forget();               ///< Drops what is kept for reuse in memory.

  /// What the prefix cache on disk did so far. May be called from any thread.
  PrefixCacheStats prefix_cache() const;

 private:
  friend class Session;
  friend class Scheduler;
  LAPIDARY_NO_EXPORT const std::shared_ptr<EngineCore>& core() const;

  std::shared_ptr<EngineCore> core_;
};

}  // namespace lapidary
