#include "lapidary/scheduler.h"

#include <deque>
#include <utility>

#include "base/boundary.h"
#include "runtime/generation.h"
#include "runtime/session_impl.h"

namespace lapidary {

class Scheduler::Impl {
 public:
  Impl(const Engine& e, const SchedulerOptions& o)
      : engine(e), options(o), session(e, {.context = e.context()}) {}
  Engine engine;
  SchedulerOptions options;
  Session session;
  std::deque<std::pair<std::uint64_t, Request>> queue;
  std::uint64_t next = 0;
};

Scheduler::Scheduler() noexcept = default;
Scheduler::Scheduler(const Engine& engine, const SchedulerOptions& options)
    : impl_(at_boundary([&] { return std::make_unique<Impl>(engine, options); })) {}
Scheduler::~Scheduler() = default;
Scheduler::Scheduler(Scheduler&&) noexcept = default;
Scheduler& Scheduler::operator=(Scheduler&&) noexcept = default;

Scheduler::Impl& Scheduler::impl() const {
  if (impl_ == nullptr) at_boundary([] { throw_empty("the scheduler"); });
  return *impl_;
}

std::uint64_t Scheduler::add(Request request) {
  return at_boundary([&] {
    Impl& own = impl();
    Generation::check(request.options);
    if (request.answers < 1 || request.answers > 128)
      throw Error(ErrorCode::kUsage, "answers must be 1 to 128");
    own.session.clear();
    if (request.prompt.ids.size() > static_cast<std::size_t>(own.session.context()))
      throw Error(ErrorCode::kContext, "the prompt does not fit");
    own.queue.emplace_back(own.next, std::move(request));
    return own.next++;
  });
}

std::vector<Answer> Scheduler::step() {
  Impl& own = impl();
  std::vector<Answer> out;
  if (own.queue.empty()) return out;
  const auto [number, request] = std::move(own.queue.front());
  own.queue.pop_front();
  for (int i = 0; i < request.answers; ++i) {
    Answer answer{number, i, {}, {}};
    try {
      own.session.clear();
      own.session.append(request.prompt, {}, request.options.cancel);
      GenerateOptions options = request.options;
      options.sampling.seed += static_cast<std::uint64_t>(i);
      answer.completion = own.session.generate(options);
    } catch (const Error& error) {
      answer.error = error;
    }
    out.push_back(std::move(answer));
  }
  return out;
}

std::size_t Scheduler::waiting() const { return impl().queue.size(); }
std::size_t Scheduler::running() const { return 0; }
std::size_t Scheduler::parallel() const { return 1; }

}  // namespace lapidary
