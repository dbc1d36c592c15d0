#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "lapidary/session.h"
#include "runtime/sequence.h"

namespace lapidary {

/// Throws Error(kUsage) when `draft` and `target` do not have the same ids for the same pieces.
void check_same_vocabulary(const Model& draft, const Model& target);

/// A second model that keeps in step with a sequence and draws what may follow it. Pictures are
/// left out of what it reads.
class DraftModel {
 public:
  /// The draft's session for a target of `plan`.
  static SessionOptions session_options(const SessionPlan& plan, int threads);

  DraftModel(const Model& draft, const SessionOptions& options, TokenId image_token);

  /// Computes `ids`, of which those of the last follow() or draft() are a prefix, but for ids that
  /// were drafted and not drawn. Allocates nothing within the context.
  void follow(std::span<const TokenId> ids);

  /// Draws out.size() ids behind `ids` as the target will, with the same random numbers: fewer when
  /// a stop id comes. Allocates nothing.
  std::size_t draft(std::span<const TokenId> ids, std::size_t drawable,
                    const SamplingOptions& sampling, std::span<TokenId> out);

  /// The target has gone back to its first `count` ids.
  void rewind(std::size_t count);
  void clear();

 private:
  void take(std::span<const TokenId> ids);

  Sequence sequence_;
  TokenId image_token_;
  std::vector<TokenId> history_;  // What sequence_ stands for: image tokens too, drafts at the end.
  std::size_t drafted_ = 0;       // Ids at the end of it that may not be the target's.
};

}  // namespace lapidary
