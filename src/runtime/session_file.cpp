#include "lapidary/error.h"
#include "lapidary/session.h"

namespace lapidary {

void Session::save(const std::string&, std::string_view, const std::atomic<bool>*) {
  throw Error(ErrorCode::kFailed, "saving is being built");
}

Loaded Session::load(const std::string&, IfUnusable, const Progress&, const std::atomic<bool>*) {
  throw Error(ErrorCode::kFailed, "loading is being built");
}

}  // namespace lapidary
