#include "runtime/session_plan.h"

#include <algorithm>
#include <string>

#include "base/format.h"
#include "lapidary/error.h"
#include "model/decoder.h"
#include "model/kv_cache.h"
#include "runtime/budget.h"
#include "runtime/memory_plan.h"
#include "runtime/model_impl.h"
#include "runtime/ngram_index.h"
#include "runtime/speculator.h"

namespace lapidary {

namespace {

constexpr int kDefaultContext = 32768;
constexpr int kLongestContext = 1 << 28;  // Far beyond any model: sizes of it fit 64 bits.
constexpr std::uint64_t kSamplerBytes =
    20;  // An id of the vocabulary: penalised logit, candidate, weight.

}  // namespace

SessionPlan plan_session(const Config& config, int view_tokens, const SessionOptions& options,
                         int threads) {
  if (options.context < 0 || options.context > kLongestContext) {
    throw Error(ErrorCode::kUsage,
                format("context must be 0 to {} tokens, not {}", kLongestContext, options.context));
  }
  if (options.chunk < 1) {
    throw Error(ErrorCode::kUsage, format("chunk must be at least 1 token, not {}", options.chunk));
  }
  SessionPlan plan;
  const int trained = config.trained_context;
  plan.context = options.context;
  if (plan.context == 0)
    plan.context = trained > 0 ? std::min(trained, kDefaultContext) : kDefaultContext;
  plan.chunk = std::min(options.chunk, plan.context);
  // A chunk may end with the first token of a picture, and then goes on to its last.
  plan.longest_chunk = std::min(plan.chunk + std::max(view_tokens - 1, 0), plan.context);
  const auto vocabulary = static_cast<std::uint64_t>(config.vocabulary);
  plan.kv_bytes = kv_cache_bytes(config, plan.context, plan.longest_chunk);
  plan.bytes = Decoder::memory_bytes(config, plan.context, plan.longest_chunk, threads) +
               vocabulary * sizeof(float) * SessionPlan::kLogitRows + vocabulary * kSamplerBytes +
               static_cast<std::uint64_t>(plan.context) * sizeof(TokenId) +
               NgramIndex::memory_bytes(plan.context);
  plan.memory_limit = options.memory_limit;
  return plan;
}

SessionPlan make_plan(const Model& model, const SessionOptions& options, int threads) {
  const int view_tokens = model.vision() == nullptr ? 0 : model.vision()->tokens;
  SessionPlan plan = plan_session(model.impl().config, view_tokens, options, threads);
  plan.bytes += Speculator::draft_bytes(plan, options, threads);
  std::uint64_t held = held_by(model.info());
  if (options.draft) held += held_by(options.draft->info());
  check_budget(format("a context of {} tokens", plan.context), options.memory_limit == 0 ? 0 : held,
               plan.bytes, options.memory_limit);
  return plan;
}

}  // namespace lapidary
