#include "lapidary/session.h"
#include "runtime/session_impl.h"

namespace lapidary {

void Session::save(const std::string& path, std::string_view note,
                   const std::atomic<bool>* cancel) {
  use(impl_.get(), Impl::kName, [&](Impl& own) { own.save(path, note, cancel); });
}

Loaded Session::load(const std::string& path, IfUnusable otherwise, const Progress& progress,
                     const std::atomic<bool>* cancel) {
  return use(impl_.get(), Impl::kName, [&](Impl& own) {
    Loaded loaded = own.load(path, otherwise, progress, cancel);
    own.drop_queue();
    return loaded;
  });
}

}  // namespace lapidary
