#pragma once

#include "lapidary/engine.h"

namespace lapidary {

class Engine::Impl {
 public:
  Impl(const Model& m, const EngineOptions& o) : model(m), options(o) {}
  Model model;
  EngineOptions options;
};

}  // namespace lapidary
