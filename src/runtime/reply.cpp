#include <memory>
#include <utility>

#include "base/boundary.h"
#include "lapidary/session.h"
#include "runtime/generation.h"
#include "runtime/session_impl.h"

namespace lapidary {

namespace {
constexpr const char* kName = "the reply";
}  // namespace

class Reply::State : public Generation {
 public:
  State(Session::Impl& own, const GenerateOptions& options)
      : Generation(own, options), session(own) {}
  Session::Impl& session;
};

Reply::Reply() noexcept = default;
Reply::Reply(std::unique_ptr<State> state) : state_(std::move(state)) {}
Reply::~Reply() = default;
Reply::Reply(Reply&& other) noexcept = default;
Reply& Reply::operator=(Reply&& other) noexcept = default;

bool Reply::next() {
  return at_boundary([&] {
    if (state_ == nullptr) throw_empty(kName);
    const Use call(state_->session.exclusive, Session::Impl::kName);
    while (state_->step()) {
      piece_ = state_->piece();
      if (!piece_.empty()) return true;
    }
    piece_ = {};
    state_->session.engine->write_places();
    return false;
  });
}

Reply::iterator Reply::begin() { return next() ? iterator(this) : iterator(); }

Reply::iterator& Reply::iterator::operator++() {
  if (!reply_->next()) reply_ = nullptr;
  return *this;
}

const Completion& Reply::completion() const {
  if (state_ == nullptr) at_boundary([] { throw_empty(kName); });
  return state_->completion();
}

Reply Session::reply(const GenerateOptions& options) {
  return use(impl_.get(), Impl::kName, [&](Impl& own) {
    Generation::check(options);
    own.append_queue({}, options.cancel);
    return Reply(std::make_unique<Reply::State>(own, own.reply_options(options)));
  });
}

}  // namespace lapidary
