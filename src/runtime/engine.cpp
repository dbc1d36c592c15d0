#include "lapidary/engine.h"

#include "base/boundary.h"
#include "lapidary/error.h"
#include "runtime/engine_core.h"

namespace lapidary {

namespace {

std::shared_ptr<EngineCore> make_core(const Model& model, const EngineOptions& options) {
  const int threads = checked_threads(options.threads);
  const auto make = [&](Room room) {
    return std::make_shared<EngineCore>(model, make_plan(model, options, threads, room), threads);
  };
  try {
    return make(Room::kShareOfMachine);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kMemory || options.kv_memory > 0) throw;
  }
  return make(Room::kOneContext);  // The process may not reserve what the machine has.
}

}  // namespace

Engine::Engine() noexcept = default;
Engine::Engine(const Model& model, const EngineOptions& options)
    : core_(at_boundary([&] { return make_core(model, options); })) {}
Engine::~Engine() = default;
Engine::Engine(const Engine&) noexcept = default;
Engine& Engine::operator=(const Engine&) noexcept = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

const std::shared_ptr<EngineCore>& Engine::core() const {
  if (core_ == nullptr) at_boundary([] { throw_empty("the engine"); });
  return core_;
}

const Model& Engine::model() const { return core()->model; }
int Engine::threads() const { return core()->team.threads(); }
int Engine::context() const { return core()->plan.context; }

EngineStats Engine::stats() const {
  return at_boundary([&] {
    const Turn turn(*core());
    return core_->stats();
  });
}

PrefixCacheStats Engine::prefix_cache() const {
  return at_boundary([&] { return core()->prefix_cache(); });
}

void Engine::forget() {
  at_boundary([&] {
    const Turn turn(*core());
    core_->kept.clear();
  });
}

}  // namespace lapidary
