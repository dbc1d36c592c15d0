#include "lapidary/engine.h"

#include "base/boundary.h"
#include "runtime/engine_impl.h"
#include "runtime/session_impl.h"

namespace lapidary {

namespace {
constexpr const char* kName = "the engine";
}  // namespace

Engine::Engine() noexcept = default;
Engine::Engine(const Model& model, const EngineOptions& options)
    : impl_(at_boundary([&] { return std::make_shared<Impl>(model, options); })) {}
Engine::~Engine() = default;
Engine::Engine(const Engine&) noexcept = default;
Engine& Engine::operator=(const Engine&) noexcept = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

Engine::Impl& Engine::impl() const {
  if (impl_ == nullptr) at_boundary([] { throw_empty(kName); });
  return *impl_;
}

const Model& Engine::model() const { return impl().model; }
int Engine::threads() const { return Session(impl().model).threads(); }
int Engine::context() const { return Session(impl().model, {.context = impl().options.context}).context(); }
EngineStats Engine::stats() const { return {}; }
void Engine::forget() { impl(); }

Session::Session(const Engine& engine, const SessionOptions& options)
    : Session(engine.model(), options) {}

}  // namespace lapidary
