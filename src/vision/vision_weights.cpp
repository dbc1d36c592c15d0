#include "vision/vision_weights.h"

#include <string>
#include <utility>

#include "lapidary/error.h"
#include "ops/tensor_plan.h"

namespace lapidary {
namespace {

/// Checks what the kernels ask for: values in pairs, a head within one block.
void check_sizes(const WeightSource& source, const VisionConfig& c) {
  if (c.head_dim % 2 == 0 && c.head_dim <= kernels::kBfpBlock && c.feed_forward % 2 == 0 &&
      c.patch_size % 2 == 0)
    return;
  throw Error(ErrorCode::kFile,
              source.where(Key::kHeads) + " gives heads of " + std::to_string(c.head_dim) +
                  " values, beside a feed-forward width of " + std::to_string(c.feed_forward) +
                  " and patches of " + std::to_string(c.patch_size) +
                  " pixels: all must be even, and heads at most " +
                  std::to_string(kernels::kBfpBlock));
}

/// Asks for all tensors, with the places they go to.
class Planner {
 public:
  Planner(const WeightSource& source, const VisionConfig& config, VisionWeights& weights)
      : plan_(source, "reading the vision model"), c_(config), w_(weights) {
    check_sizes(source, config);
  }

  TensorPlan plan() {
    // First, since it is packed in one go: the others are loaded meanwhile.
    w_.projection = {c_.text_width, c_.width};
    plan_.matrix({Part::kProjection}, {c_.text_width, c_.width}, w_.projection, true);
    const int patch_values = 3 * c_.patch_size * c_.patch_size;
    w_.patch.matrix = {c_.width, patch_values};
    plan_.matrix({Part::kPatches}, {c_.patch_size, c_.patch_size, 3, c_.width}, w_.patch.matrix);
    bias({Part::kPatches}, c_.width, w_.patch.bias);
    plan_.values({Part::kPositions}, {c_.width, c_.patches()}, w_.positions);
    w_.layers.resize(static_cast<std::size_t>(c_.layers));
    for (int i = 0; i < c_.layers; ++i) layer(i, w_.layers[static_cast<std::size_t>(i)]);
    norm({Part::kPostNorm}, w_.post_norm);
    plan_.values({Part::kSoftNorm}, {c_.width}, w_.soft_norm);
    return std::move(plan_);
  }

 private:
  void layer(int i, VisionLayer& out) {
    norm({Part::kAttentionNorm, i}, out.attention_norm);
    linear({Part::kQuery, i}, c_.width, c_.width, out.query);
    linear({Part::kKey, i}, c_.width, c_.width, out.key);
    linear({Part::kValue, i}, c_.width, c_.width, out.value);
    // Its input is rounded head by head, as attention leaves it.
    linear({Part::kOutput, i}, c_.width, c_.width, out.output, c_.head_dim);
    norm({Part::kFeedForwardNorm, i}, out.ffn_norm);
    linear({Part::kUp, i}, c_.width, c_.feed_forward, out.up);
    linear({Part::kDown, i}, c_.feed_forward, c_.width, out.down);
  }

  void linear(const TensorName& name, int columns, int rows, BiasedMatrix& out,
              int block = kernels::kBfpBlock) {
    out.matrix = {rows, columns, block};
    plan_.matrix(name, {columns, rows}, out.matrix);
    bias(name, rows, out.bias);
  }

  void norm(const TensorName& name, LayerNorm& out) {
    plan_.values(name, {c_.width}, out.weight);
    bias(name, c_.width, out.bias);
  }

  void bias(const TensorName& name, int rows, const float*& out) {
    plan_.values({name.part, name.layer, true}, {rows}, out);
  }

  TensorPlan plan_;
  const VisionConfig& c_;
  VisionWeights& w_;
};

}  // namespace

std::uint64_t vision_weight_bytes(const WeightSource& source, const VisionConfig& config) {
  VisionWeights shapes;
  return Planner(source, config, shapes).plan().bytes();
}

std::string unused_vision_tensors(const WeightSource& source, const VisionConfig& config) {
  VisionWeights shapes;
  return Planner(source, config, shapes).plan().unused();
}

std::unique_ptr<const VisionWeights> load_vision_weights(const WeightSource& source,
                                                         const VisionConfig& config,
                                                         const kernels::Kernels& kernels,
                                                         Team& team, const Progress& progress,
                                                         const std::atomic<bool>* cancel) {
  auto weights = std::make_unique<VisionWeights>();
  weights->config = config;
  weights->kernels = &kernels;
  const TensorPlan plan = Planner(source, config, *weights).plan();
  weights->arena = plan.load(kernels, team, progress, cancel);
  return weights;
}

}  // namespace lapidary
