#include "lapidary/model.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "base/boundary.h"
#include "base/cancel.h"
#include "base/format.h"
#include "base/printable.h"
#include "base/team.h"
#include "formats/quantize.h"
#include "formats/quantized_source.h"
#include "lapidary/error.h"
#include "runtime/budget.h"
#include "runtime/memory_plan.h"
#include "runtime/model_impl.h"
#include "runtime/vision_part.h"
#include "text/tokenizer_impl.h"

namespace lapidary {

Model::Impl::Impl(Config c, ModelInfo i, std::string set, Tokenizer t, WeightsPtr w,
                  std::unique_ptr<VisionPart> v, const Digest& f)
    : config(std::move(c)),
      info(std::move(i)),
      isa(std::move(set)),
      tokenizer(std::move(t)),
      weights(std::move(w)),
      vision(std::move(v)),
      fingerprint(f) {}
Model::Impl::~Impl() = default;

const Digest& Model::Impl::vocabulary() const {
  std::call_once(vocabulary_once_, [this] { vocabulary_ = vocabulary_digest(tokenizer); });
  return vocabulary_;
}

namespace {

constexpr const char* kReading = "reading the model";

/// The tokenizer of `source`, which may have fewer tokens than the embedding has rows. `held`: what
/// the weights will take.
Tokenizer fitting_tokenizer(const WeightSource& source, const Config& config, std::uint64_t held,
                            const std::atomic<bool>* cancel) {
  Tokenizer tokenizer = load_tokenizer(source, cancel, held);
  if (tokenizer.vocabulary_size() <= config.vocabulary) return tokenizer;
  throw Error(ErrorCode::kFile, format("{} has {} rows, fewer than the {} of key {}",
                                       source.where({Part::kEmbedding}), config.vocabulary,
                                       tokenizer.vocabulary_size(), source.name(Key::kTokens)));
}

std::shared_ptr<const Model::Impl> load_model(const std::string& path,
                                              const ModelOptions& options) {
  const int threads = checked_threads(options.threads);
  const kernels::Kernels& kernels = select_kernels(options.isa);
  const std::unique_ptr<WeightSource> source = open_text(path, options);
  check_cancel(options.cancel, kReading);
  Config config = read_config(*source);
  config.screened_head = options.screened_head;
  ModelInfo info = describe(*source, config);
  std::unique_ptr<VisionPart> vision;
  if (!options.vision.empty())
    vision = std::make_unique<VisionPart>(options.vision, path, config.width, kernels, options);
  check_budget(path + ": the model", 0, held_by(info), options.memory_limit);
  check_cancel(options.cancel, kReading);
  // Before the weights: its own set-up then goes on beside their reading.
  Tokenizer tokenizer = fitting_tokenizer(*source, config, info.weight_bytes, options.cancel);
  Team team(threads);
  WeightsPtr weights =
      load_weights(*source, config, kernels, team, options.progress, options.cancel);
  const Digest print = fingerprint(*source, config, options.cancel);
  finish_loading(tokenizer, options.cancel);
  return std::make_shared<const Model::Impl>(std::move(config), std::move(info), kernels.name,
                                             std::move(tokenizer), std::move(weights),
                                             std::move(vision), print);
}

}  // namespace

std::unique_ptr<WeightSource> open_text(const std::string& path, const ModelOptions& options) {
  const std::optional<BlockType> type = find_weight_type(options.weights);
  if (!type && !options.weights.empty()) {
    throw Error(ErrorCode::kUsage, format("weights of type {}, expected one of {}",
                                          printable_value(options.weights), weight_type_names()));
  }
  std::unique_ptr<WeightSource> source = open_source(path, Content::kText);
  return type ? quantize_source(std::move(source), *type) : std::move(source);
}

Model Model::load(const std::string& path, const ModelOptions& options) {
  return at_boundary([&] { return Model(load_model(path, options)); });
}

const Model::Impl& Model::impl() const {
  if (impl_ == nullptr) at_boundary([] { throw_empty("the model"); });
  return *impl_;
}

std::size_t drawable_ids(const Model& model) {
  const Tokenizer& tokenizer = model.tokenizer();
  TokenId count = std::min(model.info().vocabulary, tokenizer.vocabulary_size());
  if (tokenizer.image_token() > tokenizer.end_of_image())
    count = std::min(count, tokenizer.image_token());
  return static_cast<std::size_t>(count);
}

const ModelInfo& Model::info() const { return impl().info; }
const Tokenizer& Model::tokenizer() const { return impl().tokenizer; }
const VisionInfo* Model::vision() const {
  return impl().vision != nullptr ? &impl_->vision->info() : nullptr;
}
const std::string& Model::isa() const { return impl().isa; }

}  // namespace lapidary
