#pragma once

#include <cstdint>

#include "lapidary/session.h"
#include "model/config.h"

namespace lapidary {

/// What a session takes, settled and checked before any of it is taken.
struct SessionPlan {
  /// Rows of logits that one pass over the head computes when every position's are asked for.
  static constexpr int kLogitRows = 16;

  int context = 0;
  int chunk = 0;
  int longest_chunk = 0;       // A chunk goes on to the end of an image that it has begun.
  std::uint64_t bytes = 0;     // All of the session, the KV cache included.
  std::uint64_t kv_bytes = 0;  // Of those.
  std::uint64_t memory_limit = 0;
};

/// What a session takes of a model whose vision part, if any, makes `view_tokens` of a view; a
/// draft model is not counted and no budget looked at. Throws Error(kUsage) for options out of
/// range.
SessionPlan plan_session(const Config& config, int view_tokens, const SessionOptions& options,
                         int threads);

SessionPlan make_plan(const Model& model, const SessionOptions& options, int threads);

}  // namespace lapidary
