#include "vision/vision_weights.h"

#include <string>

#include "base/format.h"
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
              format("{} gives heads of {} values, beside a feed-forward width of {} and patches "
                     "of {} pixels: all must be even, and heads at most {}",
                     source.where(Key::kHeads), c.head_dim, c.feed_forward, c.patch_size,
                     kernels::kBfpBlock));
}

void plan_bias(TensorPlan& plan, const TensorName& name, int rows, const float*& out) {
  plan.values({name.part, name.layer, true}, {rows}, out);
}

void plan_norm(TensorPlan& plan, const TensorName& name, int width, LayerNorm& out) {
  plan.values(name, {width}, out.weight);
  plan_bias(plan, name, width, out.bias);
}

void plan_layer(TensorPlan& plan, const VisionConfig& c, int i, VisionLayer& w) {
  const auto linear = [&](Part part, int columns, int rows, BiasedMatrix& out,
                          int block = kernels::kBfpBlock) {
    out.matrix = {rows, columns, block};
    plan.matrix({part, i}, {columns, rows}, out.matrix);
    plan_bias(plan, {part, i}, rows, out.bias);
  };
  plan_norm(plan, {Part::kAttentionNorm, i}, c.width, w.attention_norm);
  linear(Part::kQuery, c.width, c.width, w.query);
  linear(Part::kKey, c.width, c.width, w.key);
  linear(Part::kValue, c.width, c.width, w.value);
  // Its input is rounded head by head, as attention leaves it.
  linear(Part::kOutput, c.width, c.width, w.output, c.head_dim);
  plan_norm(plan, {Part::kFeedForwardNorm, i}, c.width, w.ffn_norm);
  linear(Part::kUp, c.width, c.feed_forward, w.up);
  linear(Part::kDown, c.feed_forward, c.width, w.down);
}

/// Every tensor of the encoder with the place it goes to.
TensorPlan plan_weights(const WeightSource& source, const VisionConfig& c, VisionWeights& w) {
  check_sizes(source, c);
  TensorPlan plan(source, "reading the vision model");
  // First, since it is packed in one go: the others are loaded meanwhile.
  w.projection = {c.text_width, c.width};
  plan.matrix({Part::kProjection}, {c.text_width, c.width}, w.projection, true);
  w.patch.matrix = {c.width, 3 * c.patch_size * c.patch_size};
  plan.matrix({Part::kPatches}, {c.patch_size, c.patch_size, 3, c.width}, w.patch.matrix);
  plan_bias(plan, {Part::kPatches}, c.width, w.patch.bias);
  plan.values({Part::kPositions}, {c.width, c.patches()}, w.positions);
  w.layers.resize(static_cast<std::size_t>(c.layers));
  for (int i = 0; i < c.layers; ++i) plan_layer(plan, c, i, w.layers[static_cast<std::size_t>(i)]);
  plan_norm(plan, {Part::kPostNorm}, c.width, w.post_norm);
  plan.values({Part::kSoftNorm}, {c.width}, w.soft_norm);
  return plan;
}

}  // namespace

std::uint64_t vision_weight_bytes(const WeightSource& source, const VisionConfig& config) {
  VisionWeights shapes;
  return plan_weights(source, config, shapes).bytes();
}

std::string unused_vision_tensors(const WeightSource& source, const VisionConfig& config) {
  VisionWeights shapes;
  return plan_weights(source, config, shapes).unused();
}

std::unique_ptr<const VisionWeights> load_vision_weights(const WeightSource& source,
                                                         const VisionConfig& config,
                                                         const kernels::Kernels& kernels,
                                                         Team& team, const Progress& progress,
                                                         const std::atomic<bool>* cancel) {
  auto weights = std::make_unique<VisionWeights>();
  weights->config = config;
  weights->kernels = &kernels;
  const TensorPlan plan = plan_weights(source, config, *weights);
  weights->arena = plan.load(kernels, team, progress, cancel);
  return weights;
}

}  // namespace lapidary
