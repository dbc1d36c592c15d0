#include <memory>
#include <utility>

#include "lapidary/session.h"
#include "runtime/generation.h"

namespace lapidary {

class Reply::State : public Generation {
 public:
  using Generation::Generation;
};

Reply::Reply(std::unique_ptr<State> state) : state_(std::move(state)) {}
Reply::~Reply() = default;
Reply::Reply(Reply&& other) noexcept = default;

bool Reply::next() {
  while (state_->step()) {
    piece_ = state_->piece();
    if (!piece_.empty()) return true;
  }
  piece_ = {};
  return false;
}

Reply::iterator Reply::begin() { return next() ? iterator(this) : iterator(); }

Reply::iterator& Reply::iterator::operator++() {
  if (!reply_->next()) reply_ = nullptr;
  return *this;
}

const Completion& Reply::completion() const { return state_->completion(); }

Reply Session::reply(const GenerateOptions& options) {
  Generation::check(options);
  impl_->append_queue({}, options.cancel);
  return Reply(std::make_unique<Reply::State>(*impl_, impl_->reply_options(options)));
}

}  // namespace lapidary
