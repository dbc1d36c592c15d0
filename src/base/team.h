#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace lapidary {

/// A reference to a callable, without owning or allocating; the callable must outlive the call.
template <class Signature>
class FunctionRef;
template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  template <class F>
  FunctionRef(F& f)  // NOLINT(google-explicit-constructor): made to be passed lambdas.
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* object, Args... args) -> R { return (*static_cast<F*>(object))(args...); }) {}
  R operator()(Args... args) const { return call_(object_, args...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

class Team;

/// One thread's place in a running team. Every worker of a team must make the same sequence of calls.
class Worker {
 public:
  int index() const { return index_; }
  int count() const { return count_; }

  /// Hands out 0 … tasks-1 in order, each to whichever worker asks next, and returns when all are done (a barrier).
  /// Which worker runs a task must not matter to its result.
  template <class F>
  void for_each(int tasks, F&& task) {
    for (int i = next(); i < tasks; i = next()) task(i);
    barrier();
  }

  /// Waits until every worker is here: spins for some microseconds, then sleeps in the kernel, so that a busy neighbour
  /// costs its share and not more.
  void barrier();

 private:
  friend class Team;
  int next();

  Team* team_ = nullptr;
  int index_ = 0;
  int count_ = 1;
};

/// Threads that work together on one forward pass; the only place that knows OpenMP. A team runs one body at a time and
/// belongs to one thread at a time. Allocates nothing after construction.
class Team {
 public:
  /// 0: as many as default_threads().
  explicit Team(int threads = 0);
  int threads() const { return threads_; }

  /// Runs `body` once on each thread, the caller's among them, with denormals flushed to zero (restored afterwards in the
  /// caller's). An exception that leaves `body` (on any thread, outside of a for_each that others wait in) is thrown again here.
  void run(FunctionRef<void(Worker&)> body);

 private:
  friend class Worker;
  int threads_;
  alignas(64) std::atomic<int> next_task_{0};
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<std::uint32_t> phase_{0};
};

/// Physical cores that this process may use: affinity and the cgroup's quota respected.
int default_threads();

}  // namespace lapidary
