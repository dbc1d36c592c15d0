#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <type_traits>

#include "base/cancel.h"
#include "base/float_environment.h"

namespace lapidary {

/// A reference to a callable, without owning or allocating; the callable must outlive the call.
template <class Signature>
class FunctionRef;
template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>)
      FunctionRef(F&& f)  // NOLINT(google-explicit-constructor): made to be passed lambdas.
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(args...);
        }) {}
  R operator()(Args... args) const { return call_(object_, args...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

/// What a barrier runs that has nothing to run.
inline constexpr auto kNothing = [] {};

class Team;

/// One thread's place in a running team. Every worker of a team must make the same sequence of
/// calls.
class Worker {
 public:
  int index() const { return index_; }
  int count() const { return count_; }

  /// Runs `task` for 0 … tasks-1 and returns when all are done (a barrier). Each worker takes the
  /// tasks of its own share in order, so that it reads on where it stopped, and then what others
  /// have left of theirs. Which worker runs a task must not matter to its result.
  ///
  /// One worker runs `then` when all tasks are done and before any worker returns: little work that
  /// is not worth a barrier of its own.
  ///
  /// Once the team is stopped, by an exception or by its `cancel`, no more tasks are begun.
  template <class F>
  void for_each(int tasks, F&& task, FunctionRef<void()> then = kNothing) {
    prepare_round();
    for (int i = 0; i < count_; ++i) {
      const int owner = index_ + i < count_ ? index_ + i : index_ + i - count_;
      const int begin = share_begin(owner, tasks), end = share_begin(owner + 1, tasks);
      for (int t = next(owner, begin, end); t < end; t = next(owner, begin, end)) task(t);
    }
    barrier(then);
  }

  /// Waits until every worker is here: spins for some microseconds, then sleeps in the kernel, so
  /// that a busy neighbour costs its share and not more. The last to come runs `then` first.
  void barrier(FunctionRef<void()> then = kNothing);

  /// Runs `body` in the floating-point environment of the thread outside the team: worker 0 calls
  /// back into the host so.
  template <class F>
  void outside(F&& body) {
    const FloatEnvironment::Outside environment(*environment_);
    body();
  }

 private:
  friend class Team;
  void prepare_round();
  int next(int owner, int begin, int end);
  std::atomic<int>& taken(int owner, int round);
  int share_begin(int owner, int tasks) const {
    return static_cast<int>(std::int64_t{owner} * tasks / count_);
  }

  Team* team_ = nullptr;
  const FloatEnvironment* environment_ = nullptr;
  int round_ = 0;  // Calls of for_each in this run.
  int index_ = 0;
  int count_ = 1;
};

/// Threads that work together on one forward pass; the only place that knows OpenMP. A team runs
/// one body at a time and belongs to one thread at a time. Allocates nothing after construction
/// (OpenMP's own threads apart, at the first run).
class Team {
 public:
  /// 0: as many as default_threads(). Throws Error(kUsage) for fewer than 0 or more than
  /// kMaxThreads, Error(kFailed) with both numbers where fewer can be made than asked.
  explicit Team(int threads = 0);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  static constexpr int kMaxThreads = 1024;

  int threads() const { return threads_; }

  /// Runs `body` once on each thread, the caller's among them, with denormals flushed to zero and
  /// rounding to nearest (both restored afterwards). The first exception that leaves `body` on any
  /// thread is thrown again here; the other threads leave `body` at their next barrier. May come
  /// with fewer threads than asked: ask Worker::count(). Once `cancel` is set, no task is begun any
  /// more: throws Error(kInterrupted).
  void run(FunctionRef<void(Worker&)> body, const std::atomic<bool>* cancel = nullptr);

 private:
  friend class Worker;
  class Pool;
  /// How many tasks of a worker's share have been taken. Rounds use one and the other in turn: a
  /// worker sets its own back for the next round, when nobody is in the last one any more.
  struct alignas(64) Share {
    std::atomic<int> taken[2];
  };

  void work(int index, int count, FunctionRef<void(Worker&)> body) noexcept;
  void arrive(int count, FunctionRef<void()> then);
  bool stopped() const { return (phase_.load(std::memory_order_relaxed) & kStopped) != 0; }
  [[noreturn]] static void interrupt();

  static constexpr std::uint32_t kStopped = std::uint32_t{1} << 31;

  int threads_;
  std::unique_ptr<Pool> pool_;
  const std::atomic<bool>* cancel_ = nullptr;  // Of this run; nullptr: none.
  std::exception_ptr error_;                   // Written by the thread that stops the team.
  std::unique_ptr<Share[]> shares_;            // [threads]
  // Each on a line of its own: the first is written by all, the last is read by all that wait.
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> sleepers_{0};  // Threads that wait in the kernel.
  alignas(64) std::atomic<std::uint32_t> phase_{
      0};  // Barriers passed in this run; kStopped: by an exception.
};

inline std::atomic<int>& Worker::taken(int owner, int round) {
  return team_->shares_[static_cast<std::size_t>(owner)].taken[round % 2];
}
inline void Worker::prepare_round() {
  ++round_;
  taken(index_, round_ + 1).store(0, std::memory_order_relaxed);
}
inline int Worker::next(int owner, int begin, int end) {
  if (team_->stopped()) return end;
  if (is_set(team_->cancel_)) Team::interrupt();
  std::atomic<int>& count = taken(owner, round_);
  if (count.load(std::memory_order_relaxed) >= end - begin) return end;  // Written no more.
  return begin + count.fetch_add(1, std::memory_order_relaxed);
}

/// Physical cores that this process may use: affinity and the cgroup's quota respected.
int default_threads();

/// What a team of `threads` has: 0 stands for default_threads(). Throws Error(kUsage) for fewer
/// than 0 or more than Team::kMaxThreads.
int checked_threads(int threads);

}  // namespace lapidary
