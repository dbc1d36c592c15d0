#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/memory.h"
#include "base/team.h"
#include "lapidary/session.h"
#include "model/decoder.h"
#include "runtime/sampler.h"

namespace lapidary {

/// What a session takes, settled and checked before any of it is taken.
struct SessionPlan {
  /// Rows of logits that one pass over the head computes when every position's are asked for.
  static constexpr int kLogitRows = 16;

  int context = 0;
  int chunk = 0;
  int longest_chunk = 0;  // A chunk goes on to the end of an image that it has begun.
  std::uint64_t bytes = 0;
  std::uint64_t memory_limit = 0;
};

/// The tokens behind a Session. Its last ids may be drawn and not computed yet (`computed` <
/// ids.size()): they are computed with whatever comes next, or when their logits are asked for.
class Sequence {
 public:
  Sequence(const Model& model, const SessionOptions& options);

  void append(std::span<const TokenId> ids, std::span<const ImageFeatures> images,
              const Progress& progress, const std::atomic<bool>* cancel);
  void append_with_logits(std::span<const TokenId> ids, std::span<const ImageFeatures> images,
                          const std::function<void(int, std::span<const float>)>& on_logits,
                          const std::atomic<bool>* cancel);

  /// Computes what is left to compute, then the logits of the last id. Empty for an empty session.
  /// Allocates nothing.
  std::span<const float> logits();

  /// Draws the id that follows the last one, which is not added. Reads as much of the head as that
  /// takes; the id is the one that sampling from logits() gives. Allocates nothing.
  TokenId draw(const SamplingOptions& options);

  /// Ids below this have a piece of text, and none stands for a picture: no other is ever drawn.
  std::size_t drawable() const;

  void add_user(std::span<const ContentPart> parts, std::string_view system);

  /// Appends what add_user left. A queue that does not fit is dropped; one that is interrupted
  /// keeps its rest.
  void append_queue(const Progress& progress, const std::atomic<bool>* cancel);

  void clear();

  Model model;
  Team team;
  SessionPlan plan;
  Decoder decoder;
  Sampler sampler;
  std::vector<TokenId> ids;    // Capacity: the context.
  int computed = 0;            // Ids whose keys and values are in the cache.
  int cached = 0;              // Of those, how many a generation or reply left behind; for Usage.
  double prefill_seconds = 0;  // Spent in append since then.

 private:
  struct Rollback;

  void begin_append(std::span<const TokenId> new_ids, std::span<const ImageFeatures> images);
  void check_ids(std::span<const TokenId> new_ids) const;
  std::span<const ImageRows> next_chunk(int& count) const;
  void compute_rest();
  std::optional<TokenId> draw_from_best(std::span<const TokenId> recent,
                                        const SamplingOptions& options);
  int forward_chunk(std::size_t done, std::size_t total, const std::atomic<bool>* cancel);
  std::span<float> logit_rows(int count) const;
  bool model_turn_is_open() const;

  HugeBuffer logits_;  // [kLogitRows][vocabulary]
  const float* last_logits_ =
      nullptr;            // Row of logits_ that is the last computed id's; nullptr: not computed.
  int last_rows_ = 0;     // Tokens of the decoder's last forward.
  int screen_pause_ = 0;  // Draws that read the full head before the next search …
  int pause_length_ = 0;  // … and how many there were the last time.
  std::vector<ImageRows> images_;  // Of the append that is going on.
  Prompt queue_;                   // What add_user left.
};

class Session::Impl : public Sequence {
 public:
  using Sequence::Sequence;
};

}  // namespace lapidary
