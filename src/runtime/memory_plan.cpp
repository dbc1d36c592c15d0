#include "runtime/memory_plan.h"

#include <memory>

#include "base/boundary.h"
#include "base/memory.h"
#include "base/team.h"
#include "lapidary/machine.h"
#include "lapidary/session.h"
#include "model/decoder.h"
#include "runtime/model_impl.h"
#include "runtime/sequence.h"
#include "vision/encoder.h"
#include "vision/vision_weights.h"

namespace lapidary {

std::uint64_t vocabulary_bytes(int tokens) {
  constexpr std::uint64_t kTokenBytes = 260;
  return static_cast<std::uint64_t>(tokens) * kTokenBytes;
}

std::uint64_t held_by(const ModelInfo& info) { return info.weight_bytes + info.vocabulary_bytes; }

std::uint64_t available_memory_bytes() {
  return at_boundary([] { return available_memory(); });
}

namespace {

MemoryPlan make_memory_plan(const std::string& path, const ModelOptions& model,
                            const SessionOptions& session) {
  const int threads = checked_threads(session.threads);
  const std::unique_ptr<WeightSource> source = open_text(path, model);
  Config config = read_config(*source);
  config.screened_head = model.screened_head;
  MemoryPlan plan;
  plan.weights = packed_weight_bytes(*source, config);
  plan.vocabulary = vocabulary_bytes(config.vocabulary);
  plan.process = kProcessBytes + static_cast<std::uint64_t>(threads) * kThreadBytes;
  int view_tokens = 0;
  if (!model.vision.empty()) {
    const std::unique_ptr<WeightSource> vision = open_source(model.vision, Content::kVision);
    const VisionConfig vision_config = read_vision_config(*vision);
    view_tokens = vision_config.tokens();
    plan.vision =
        vision_weight_bytes(*vision, vision_config) + Encoder::memory_bytes(vision_config, threads);
  }
  const OwnPlan own = plan_session(config, view_tokens, session, threads);
  plan.kv = own.engine.kv_bytes;
  plan.buffers = own.bytes() - own.engine.kv_bytes;
  return plan;
}

}  // namespace

MemoryPlan plan_memory(const std::string& path, const ModelOptions& model,
                       const SessionOptions& session) {
  return at_boundary([&] { return make_memory_plan(path, model, session); });
}

}  // namespace lapidary
