#include "runtime/engine_plan.h"

#include <algorithm>
#include <string>

#include "base/format.h"
#include "base/memory.h"
#include "lapidary/error.h"
#include "model/decoder.h"
#include "model/page_table.h"
#include "runtime/budget.h"
#include "runtime/memory_plan.h"
#include "runtime/model_impl.h"
#include "runtime/ngram_index.h"
#include "runtime/sequence.h"
#include "runtime/snapshots.h"
#include "runtime/speculator.h"

namespace lapidary {

namespace {

constexpr int kDefaultContext = 32768;
constexpr int kLongestContext = 1 << 28;  // Far beyond any model: sizes of it fit 64 bits.
constexpr int kLongestPass = 1 << 20;
constexpr int kMostForks = 1024;
constexpr std::uint64_t kMostPages = 0x7FFFFFFF;  // That a PageId can name.
constexpr std::uint64_t kSamplerBytes =
    20;  // An id of the vocabulary: penalised logit, candidate, weight.
// A piece of a prompt that every sequence has room for; longer ones take of passing_pages.
constexpr int kShortPiece = kernels::kPagePositions;

/// 0 stands for `otherwise`.
int checked_context(int context, int otherwise) {
  if (context >= 0 && context <= kLongestContext) return context == 0 ? otherwise : context;
  throw Error(ErrorCode::kUsage,
              format("context must be 0 to {} tokens, not {}", kLongestContext, context));
}

void check_chunk(int chunk) {
  if (chunk >= 1) return;
  throw Error(ErrorCode::kUsage, format("chunk must be at least 1 token, not {}", chunk));
}

int default_context(const Config& config) {
  const int trained = config.trained_context;
  return trained > 0 ? std::min(trained, kDefaultContext) : kDefaultContext;
}

int view_tokens_of(const Model& model) {
  return model.vision() == nullptr ? 0 : model.vision()->tokens;
}

/// `tokens` and an image that the last of them begins.
int with_image(int tokens, int view_tokens) { return tokens + std::max(view_tokens - 1, 0); }

std::uint64_t buffer_bytes(const Config& config, const EnginePlan& plan, int threads) {
  const auto vocabulary = static_cast<std::uint64_t>(config.vocabulary);
  return Decoder::memory_bytes(config, plan.context, plan.longest_pass, threads) +
         vocabulary * sizeof(float) * static_cast<std::uint64_t>(plan.logit_rows) +
         vocabulary * kSamplerBytes * static_cast<std::uint64_t>(plan.samplers);
}

/// Ids, hidden rows, and what guesses are made from.
std::uint64_t own_bytes(const Config& config, int context) {
  return static_cast<std::uint64_t>(context) * sizeof(TokenId) +
         static_cast<std::uint64_t>(config.width) * (kMaxDraft + 1) * sizeof(float) +
         NgramIndex::memory_bytes(context);
}

/// Pages that snapshots may hold. Where a context is hardly longer than a window, everything is
/// there anyway.
std::int64_t snapshot_pages(const Config& config, kernels::KvFormat format, int context,
                            const SessionOptions& options) {
  if (context <= config.sliding_window + kMostRewind) return 0;
  if (options.snapshot_memory) {
    const std::uint64_t pages = *options.snapshot_memory / kv_page_bytes(config, format);
    return static_cast<std::int64_t>(std::min(pages, kMostPages));
  }
  return std::max(3 * Snapshots::pages_of_one(config, context),
                  sequence_pages(config, context, 0) / 10);
}

int checked_forks(const SessionOptions& options) {
  if (options.forks < 0 || options.forks > kMostForks) {
    throw Error(ErrorCode::kUsage,
                format("forks must be 0 to {}, not {}", kMostForks, options.forks));
  }
  if (options.forks > 0 && options.draft)
    throw Error(ErrorCode::kUsage, "a session with a draft model cannot have forks");
  return options.forks;
}

/// The room for keys and values that `options` leave to us, of which one context takes `one`.
std::uint64_t default_kv_bytes(const EngineOptions& options, Room room, std::uint64_t one,
                               std::uint64_t taken) {
  if (room == Room::kOneContext) return one;
  const std::uint64_t most = options.memory_limit == 0 ? available_memory() : options.memory_limit;
  return std::max(one, (most - std::min(most, taken)) / 4);
}

}  // namespace

kernels::KvFormat format_of(KvType type) {
  return type == KvType::kInt8 ? kernels::KvFormat::kInt8 : kernels::KvFormat::kBf16;
}

OwnPlan plan_session(const Config& config, int view_tokens, const SessionOptions& options,
                     int threads) {
  OwnPlan plan;
  EnginePlan& engine = plan.engine;
  engine.context = checked_context(options.context, default_context(config));
  check_chunk(options.chunk);
  engine.pass = std::min(options.chunk, engine.context);
  engine.longest_pass = std::min(with_image(engine.pass, view_tokens), engine.context);
  engine.logit_rows = kLogitRows;
  engine.format = format_of(options.kv);
  const std::int64_t pages = sequence_pages(config, engine.context, engine.longest_pass);
  const std::int64_t snapshots = snapshot_pages(config, engine.format, engine.context, options);
  const std::uint64_t page_bytes = kv_page_bytes(config, engine.format);
  engine.pages = (pages + snapshots) * (1 + checked_forks(options));
  engine.shared = options.forks > 0;
  engine.kv_bytes = static_cast<std::uint64_t>(engine.pages) * page_bytes;
  engine.buffer_bytes = buffer_bytes(config, engine, threads);
  engine.reuse = options.reuse;
  engine.memory_limit = options.memory_limit;
  engine.prefix_cache = options.prefix_cache;
  engine.prefix_cache_size = options.prefix_cache_size;
  plan.session = {.context = engine.context,
                  .chunk = engine.pass,
                  .longest_chunk = engine.longest_pass,
                  .pages = pages,
                  .snapshot_pages = snapshots,
                  .kv_bytes = static_cast<std::uint64_t>(pages) * page_bytes,
                  .own_bytes = own_bytes(config, engine.context)};
  return plan;
}

OwnPlan make_plan(const Model& model, const SessionOptions& options, int threads) {
  OwnPlan plan = plan_session(model.impl().config, view_tokens_of(model), options, threads);
  plan.session.own_bytes += Speculator::draft_bytes(plan.session, options, threads);
  std::uint64_t held = held_by(model.info());
  if (options.draft) held += held_by(options.draft->info());
  check_budget(format("a context of {} tokens", plan.session.context),
               options.memory_limit == 0 ? 0 : held, plan.bytes(), options.memory_limit);
  return plan;
}

EnginePlan make_plan(const Model& model, const EngineOptions& options, int threads, Room room) {
  const Config& config = model.impl().config;
  EnginePlan plan;
  plan.context = checked_context(options.context, default_context(config));
  if (options.pass < 1 || options.pass > kLongestPass) {
    throw Error(ErrorCode::kUsage,
                format("a pass must have 1 to {} tokens, not {}", kLongestPass, options.pass));
  }
  plan.pass = options.pass;
  plan.longest_pass = with_image(plan.pass, view_tokens_of(model));
  plan.logit_rows = kHeadRows;
  plan.samplers = threads;
  plan.format = format_of(options.kv);
  plan.reuse = options.reuse;
  plan.shared = true;
  plan.buffer_bytes = buffer_bytes(config, plan, threads);
  plan.memory_limit = options.memory_limit;
  plan.prefix_cache = options.prefix_cache;
  plan.prefix_cache_size = options.prefix_cache_size;
  const std::uint64_t held = options.memory_limit == 0 ? 0 : held_by(model.info());
  const std::uint64_t page_bytes = kv_page_bytes(config, plan.format);
  const auto local = std::ranges::count(config.local, true);
  plan.passing_pages =
      static_cast<std::int64_t>(local) * (plan.longest_pass / kernels::kPagePositions + 1);
  const std::int64_t one = plan.passing_pages + sequence_pages(config, plan.context, kShortPiece);
  const std::uint64_t bytes =
      options.kv_memory > 0
          ? options.kv_memory
          : default_kv_bytes(options, room, static_cast<std::uint64_t>(one) * page_bytes,
                             held + plan.buffer_bytes);
  plan.pages = static_cast<std::int64_t>(std::min(bytes / page_bytes, kMostPages));
  plan.kv_bytes = static_cast<std::uint64_t>(plan.pages) * page_bytes;
  if (plan.pages <= plan.passing_pages) {
    throw Error(
        ErrorCode::kMemory,
        format("{} for keys and values is less than the {} that a pass of {} tokens takes",
               format_bytes(bytes),
               format_bytes(static_cast<std::uint64_t>(plan.passing_pages + 1) * page_bytes),
               plan.pass));
  }
  check_budget(format("an engine with {} of keys and values", format_bytes(plan.kv_bytes)), held,
               plan.bytes(), options.memory_limit);
  return plan;
}

SessionPlan plan_shared(const Config& config, const EnginePlan& engine,
                        const SessionOptions& options) {
  SessionPlan plan;
  plan.context = checked_context(options.context, engine.context);
  if (plan.context > engine.context) {
    throw Error(ErrorCode::kUsage, format("a context of {} tokens is more than the engine's {}",
                                          plan.context, engine.context));
  }
  check_chunk(options.chunk);
  if (options.threads != 0 || options.memory_limit != 0 || options.kv != KvType::kBf16 ||
      !options.prefix_cache.empty() || options.prefix_cache_size != 0) {
    throw Error(ErrorCode::kUsage,
                "threads, memory limit, kind of keys and values and prefix cache are the engine's");
  }
  plan.chunk = std::min({options.chunk, engine.pass, plan.context});
  plan.longest_chunk = std::min(plan.chunk + engine.longest_pass - engine.pass, plan.context);
  plan.pages = sequence_pages(config, plan.context, kShortPiece);
  plan.snapshot_pages = snapshot_pages(config, engine.format, plan.context, options);
  plan.kv_bytes = static_cast<std::uint64_t>(plan.pages) * kv_page_bytes(config, engine.format);
  plan.own_bytes = own_bytes(config, plan.context);
  return plan;
}

}  // namespace lapidary
