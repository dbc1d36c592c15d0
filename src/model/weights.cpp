#include "model/weights.h"

#include "ops/tensor_plan.h"

namespace lapidary {
namespace {

/// The output matrix, and the embedding where the file has another for that.
void plan_head(TensorPlan& plan, const WeightSource& source, const Config& c, HeadWeights& head) {
  const bool own = source.find({Part::kHead}) != nullptr;
  if (own) plan.matrix({Part::kEmbedding}, c.width, c.vocabulary, head.embedding, true);
  plan.head({own ? Part::kHead : Part::kEmbedding}, c.width, c.vocabulary, head, c.screened_head);
}

void plan_layer(TensorPlan& plan, const Config& c, int index, LayerWeights& w) {
  const auto matrix = [&](Part part, int columns, int rows, PackedMatrix& out) {
    plan.matrix({part, index}, columns, rows, out);
  };
  const auto norm = [&](Part part, int columns, const float*& out) {
    plan.values({part, index}, {columns}, out);
  };
  norm(Part::kAttentionNorm, c.width, w.attention_norm);
  matrix(Part::kQuery, c.width, c.query_width(), w.query);
  matrix(Part::kKey, c.width, c.kv_width(), w.key);
  matrix(Part::kValue, c.width, c.kv_width(), w.value);
  norm(Part::kQueryNorm, c.head_dim, w.query_norm);
  norm(Part::kKeyNorm, c.head_dim, w.key_norm);
  matrix(Part::kOutput, c.query_width(), c.width, w.output);
  norm(Part::kPostAttentionNorm, c.width, w.post_attention_norm);
  norm(Part::kFeedForwardNorm, c.width, w.ffn_norm);
  matrix(Part::kGate, c.width, c.feed_forward, w.gate);
  matrix(Part::kUp, c.width, c.feed_forward, w.up);
  matrix(Part::kDown, c.feed_forward, c.width, w.down);
  norm(Part::kPostFeedForwardNorm, c.width, w.post_ffn_norm);
}

/// Every tensor of the model with the place it goes to.
TensorPlan plan_weights(const WeightSource& source, const Config& c, Weights& w) {
  TensorPlan plan(source, "reading the model");
  plan_head(plan, source, c, w.head);
  plan.values({Part::kOutputNorm}, {c.width}, w.output_norm);
  w.layers.resize(static_cast<std::size_t>(c.layers));
  for (int i = 0; i < c.layers; ++i) plan_layer(plan, c, i, w.layers[static_cast<std::size_t>(i)]);
  return plan;
}

}  // namespace

void WeightsDeleter::operator()(const Weights* weights) const { delete weights; }

std::uint64_t packed_weight_bytes(const WeightSource& source, const Config& config) {
  Weights shapes;
  return plan_weights(source, config, shapes).bytes();
}

std::string unused_tensors(const WeightSource& source, const Config& config) {
  Weights shapes;
  return plan_weights(source, config, shapes).unused();
}

std::uint64_t weight_bytes_per_token(const WeightSource& source, const Config& config) {
  Weights shapes;
  const std::size_t all = plan_weights(source, config, shapes).bytes();
  const HeadWeights& head = shapes.head;
  return all - Arena::planned(head.embedding.bytes()) -
         (head.in_planes() ? 0 : Arena::planned(head.planes.bytes()));
}

std::uint64_t multiplications_per_token(const Config& c) {
  const auto width = static_cast<std::uint64_t>(c.width);
  const auto attention = static_cast<std::uint64_t>(2 * c.query_width() + 2 * c.kv_width());
  return static_cast<std::uint64_t>(c.layers) * width *
         (attention + 3 * static_cast<std::uint64_t>(c.feed_forward));
}

WeightsPtr load_weights(const WeightSource& source, const Config& config,
                        const kernels::Kernels& kernels, Team& team, const Progress& progress,
                        const std::atomic<bool>* cancel) {
  std::unique_ptr<Weights, WeightsDeleter> weights(new Weights);
  weights->config = config;
  weights->kernels = &kernels;
  const TensorPlan plan = plan_weights(source, config, *weights);
  weights->arena = plan.load(kernels, team, progress, cancel);
  return weights;
}

}  // namespace lapidary
