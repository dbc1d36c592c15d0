#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "base/exclusive.h"
#include "lapidary/session.h"
#include "runtime/sequence.h"

namespace lapidary {

/// A sequence with the turns of a conversation that wait for a reply, in one thread's hands at a
/// time.
class Session::Impl : public Sequence {
 public:
  Impl(const Model& model, const SessionOptions& options);
  Impl(const std::shared_ptr<EngineCore>& engine, const SessionOptions& options);

  /// A fork of `other`, what waits for a reply included.
  Impl(Fork fork, const Impl& other);
  ~Impl();

  void add_user(std::span<const ContentPart> parts, std::string_view system,
                const std::atomic<bool>* cancel);

  /// `options` with what ends a turn of the model.
  GenerateOptions reply_options(GenerateOptions options) const;

  /// Appends what add_user left. A queue that does not fit is dropped; one that is interrupted, by
  /// `cancel` or by what `progress` throws, keeps its rest.
  void append_queue(const Progress& progress, const std::atomic<bool>* cancel);

  void clear();
  void drop_queue() { queue_ = {}; }

  /// KV cache and buffers, those of an engine of its own included.
  std::uint64_t memory_bytes() const;

  static constexpr const char* kName = "the session";  // In messages.
  Exclusive exclusive;

 private:
  void add_draft(const SessionOptions& options);

  bool own_engine_;
  Prompt queue_;  // What add_user left.
};

}  // namespace lapidary
