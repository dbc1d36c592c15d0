#pragma once

#include <cstdint>
#include <string>

#include "kernels/kv_layout.h"
#include "lapidary/engine.h"
#include "lapidary/session.h"
#include "model/config.h"

namespace lapidary {

/// Rows of logits that one pass over the head computes when every position's are asked for.
inline constexpr int kLogitRows = 16;

kernels::KvFormat format_of(KvType type);

/// What an engine takes, settled and checked before any of it is taken.
struct EnginePlan {
  int context = 0;
  int pass = 0;
  int longest_pass = 0;  // A pass goes on to the end of an image that it has begun.
  int logit_rows = 0;    // That are kept at a time.
  int samplers = 1;      // That draw at a time.
  kernels::KvFormat format = kernels::KvFormat::kBf16;
  std::int64_t pages = 0;          // Of keys and values, of all sequences and for reuse.
  std::int64_t passing_pages = 0;  // Of those, of the prompts that a pass computes.
  bool reuse = false;
  bool shared = false;             // By several sequences; else all calls are one session's.
  std::uint64_t kv_bytes = 0;      // Of the pages.
  std::uint64_t buffer_bytes = 0;  // Everything else.
  std::uint64_t memory_limit = 0;
  std::string prefix_cache = {};  // On disk, and its most bytes.
  std::uint64_t prefix_cache_size = 0;

  std::uint64_t bytes() const { return kv_bytes + buffer_bytes; }
};

/// What a session takes of an engine.
struct SessionPlan {
  int context = 0;
  int chunk = 0;                    // Tokens of a prompt that a pass computes.
  int longest_chunk = 0;            // With an image that it has begun.
  std::int64_t pages = 0;           // Promised to it.
  std::int64_t snapshot_pages = 0;  // Held by snapshots at most, promised to nobody.
  std::uint64_t kv_bytes = 0;       // Of those.
  std::uint64_t own_bytes = 0;      // Everything else of its own.
};

/// An engine and the one session that it is made for.
struct OwnPlan {
  EnginePlan engine;
  SessionPlan session;

  std::uint64_t bytes() const { return engine.bytes() + session.own_bytes; }
};

/// What a session takes that makes an engine of its own, of a model whose vision part, if any,
/// makes `view_tokens` of a view; a draft model is not counted and no budget looked at. Throws
/// Error(kUsage) for options out of range.
OwnPlan plan_session(const Config& config, int view_tokens, const SessionOptions& options,
                     int threads);

/// The same, with a draft model, within the budget. Throws Error(kMemory) with both numbers.
OwnPlan make_plan(const Model& model, const SessionOptions& options, int threads);

/// How much memory an engine takes for keys and values that is not told.
enum class Room { kShareOfMachine, kOneContext };

/// Throws Error(kUsage) for options out of range, Error(kMemory) with both numbers.
EnginePlan make_plan(const Model& model, const EngineOptions& options, int threads,
                     Room room = Room::kShareOfMachine);

/// What a session takes of a shared engine, at most `context` tokens. Throws Error(kUsage) for
/// options out of range.
SessionPlan plan_shared(const Config& config, const EnginePlan& engine,
                        const SessionOptions& options);

}  // namespace lapidary
