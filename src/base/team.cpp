#include "base/team.h"

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>
#ifdef __linux__
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#endif
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif
#ifdef LAPIDARY_OPENMP
#include <omp.h>
#endif

#include "base/format.h"
#include "base/limits.h"
#include "lapidary/error.h"

namespace lapidary {

namespace {

// Long enough that the usual unevenness between threads never reaches the kernel, short enough that
// a thread whose neighbour lost its processor hands over its own. 5 to 50 µs have been found good,
// with busy loops beside and without.
constexpr std::chrono::microseconds kSpinTime(20);
constexpr int kPausesPerLook = 8;  // Looking at the clock costs about as much as a pause.

/// Leaves a body whose team was stopped by another thread's exception.
struct Stopped {};

/// Sleeps until `word` is not `value` any more, or for no reason. Straight to the kernel where that
/// can be: what std::atomic::wait does first, yielding the processor, gives a busy neighbour a
/// whole time slice.
void sleep_while(std::atomic<std::uint32_t>& word, std::uint32_t value) {
#if defined(__linux__)
  static_assert(sizeof word == sizeof value);
  ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
#else
  word.wait(value, std::memory_order_acquire);
#endif
}

void wake_all(std::atomic<std::uint32_t>& word) {
#if defined(__linux__)
  ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, std::numeric_limits<int>::max(), nullptr, nullptr,
            0);
#else
  word.notify_all();
#endif
}

void pause_processor() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Looks again and again for kSpinTime; returns whether it was over by then.
template <class IsOver>
bool spin_until(const IsOver& is_over) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point limit = Clock::now() + kSpinTime;
  bool over = is_over();
  while (!over) {
    for (int i = 0; i < kPausesPerLook && !over; ++i) {
      pause_processor();
      over = is_over();
    }
    if (!over && Clock::now() >= limit) return false;
  }
  return true;
}

/// Puts threads behind those of `threads`, each running `serve(index)`, until there are `asked`
/// with the caller's. Where one cannot be made, `stop` ends those that were, and an Error says how
/// many.
template <class Serve, class Stop>
void make_threads(std::vector<std::thread>& threads, int asked, const Serve& serve,
                  const Stop& stop) {
  threads.reserve(static_cast<std::size_t>(asked));
  try {
    for (int i = 1; i < asked; ++i) threads.emplace_back([serve, i] { serve(i); });
  } catch (const std::system_error& failure) {
    const std::size_t made = threads.size() + 1;
    stop();
    throw Error(ErrorCode::kFailed,
                format("threads: {} were asked for, but only {} could be made: {}", asked, made,
                       failure.code().message()));
  } catch (...) {
    stop();
    throw;
  }
}

}  // namespace

#ifdef LAPIDARY_OPENMP

/// OpenMP ends the process where it cannot make a thread, and hangs in a fork's child: both are
/// found out before it is asked.
class Team::Pool {
 public:
  explicit Pool(int threads) {
    static const pid_t process = ::getpid();
    if (process != ::getpid()) {
      throw Error(ErrorCode::kUsage,
                  "OpenMP, on which this build runs its threads, does not work behind a fork");
    }
    std::vector<std::thread> tried;
    std::atomic<bool> over{false};
    const auto stop = [&] {
      over = true;
      over.notify_all();
      for (std::thread& thread : tried) thread.join();
    };
    make_threads(
        tried, threads, [&over](int) { over.wait(false); }, stop);
    stop();
  }
};

#else

/// Threads that sleep between runs, after the same short spin as in a barrier.
class Team::Pool {
 public:
  explicit Pool(int threads) : threads_(std::make_unique<std::vector<std::thread>>()) {
    make_threads(
        *threads_, threads, [this, threads](int i) { serve(i, threads); }, [this] { stop(); });
  }

  ~Pool() {
    if (process_ == ::getpid()) {
      stop();
    } else {
      // The child of a fork has no threads to join.
      static_cast<void>(threads_.release());
    }
  }

  void run(FunctionRef<void(int index, int count)> body) {
    body_ = &body;
    running_.store(static_cast<std::uint32_t>(threads_->size()), std::memory_order_relaxed);
    start();
    body(0, static_cast<int>(threads_->size()) + 1);
    std::uint32_t left = 0;
    const auto all_done = [&] {
      left = running_.load(std::memory_order_acquire);
      return left == 0;
    };
    while (!spin_until(all_done)) sleep_while(running_, left);
  }

 private:
  void start() {
    round_.fetch_add(1, std::memory_order_release);
    wake_all(round_);
  }

  void stop() {
    body_ = nullptr;
    start();
    for (std::thread& thread : *threads_) thread.join();
  }

  void serve(int index, int count) {
    for (std::uint32_t seen = 0;;) {
      std::uint32_t now = seen;
      const auto next_round = [&] {
        now = round_.load(std::memory_order_acquire);
        return now != seen;
      };
      while (!spin_until(next_round)) sleep_while(round_, seen);
      seen = now;
      if (body_ == nullptr) return;
      (*body_)(index, count);
      if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) wake_all(running_);
    }
  }

  std::unique_ptr<std::vector<std::thread>> threads_;
  pid_t process_ = ::getpid();
  FunctionRef<void(int, int)>* body_ = nullptr;
  std::atomic<std::uint32_t> round_{0};
  std::atomic<std::uint32_t> running_{0};
};

#endif

int checked_threads(int threads) {
  if (threads < 0 || threads > Team::kMaxThreads) {
    throw Error(ErrorCode::kUsage,
                format("threads must be 0 to {}, not {}", Team::kMaxThreads, threads));
  }
  return threads == 0 ? default_threads() : threads;
}

Team::Team(int threads) : threads_(checked_threads(threads)) {
  shares_ = std::make_unique<Share[]>(static_cast<std::size_t>(threads_));
  pool_ = std::make_unique<Pool>(threads_);
}

Team::~Team() = default;

void Team::run(FunctionRef<void(Worker&)> body, const std::atomic<bool>* cancel) {
  cancel_ = cancel;
  for (int i = 0; i < threads_; ++i) {
    for (std::atomic<int>& taken : shares_[static_cast<std::size_t>(i)].taken)
      taken.store(0, std::memory_order_relaxed);
  }
  arrived_.store(0, std::memory_order_relaxed);
  phase_.store(0, std::memory_order_relaxed);
  error_ = nullptr;
#ifdef LAPIDARY_OPENMP
#pragma omp parallel num_threads(threads_) default(none) shared(body)
  work(omp_get_thread_num(), omp_get_num_threads(), body);
#else
  const auto share = [this, body](int index, int count) { work(index, count, body); };
  pool_->run(share);
#endif
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void Team::work(int index, int count, FunctionRef<void(Worker&)> body) noexcept {
  const FloatEnvironment environment;
  Worker worker;
  worker.team_ = this;
  worker.environment_ = &environment;
  worker.index_ = index;
  worker.count_ = count;
  try {
    body(worker);
  } catch (const Stopped&) {
  } catch (...) {
    // The first one counts. Its store is read after all threads have joined.
    if ((phase_.fetch_or(kStopped, std::memory_order_acq_rel) & kStopped) == 0) {
      error_ = std::current_exception();
    }
    wake_all(phase_);
  }
}

void Team::arrive(int count, FunctionRef<void()> then) {
  if (count == 1) {
    then();
    return;
  }
  // Cannot move on between this load and the arrival: the phase ends only after it.
  const std::uint32_t phase = phase_.load(std::memory_order_relaxed);
  if ((phase & kStopped) != 0) throw Stopped();
  std::uint32_t now = phase;
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == count - 1) {
    then();
    arrived_.store(0, std::memory_order_relaxed);
    now = phase_.fetch_add(1);
    if (sleepers_.load() > 0)
      wake_all(phase_);  // In one total order with the sleeper's own two steps.
  } else {
    const auto is_over = [this, phase, &now] {
      now = phase_.load(std::memory_order_acquire);
      return now != phase;
    };
    while (!spin_until(is_over)) {
      sleepers_.fetch_add(1);
      if (phase_.load() == phase) sleep_while(phase_, phase);
      sleepers_.fetch_sub(1);
    }
  }
  if ((now & kStopped) != 0) throw Stopped();
}

void Team::interrupt() { throw Error(ErrorCode::kInterrupted, "interrupted"); }

void Worker::barrier(FunctionRef<void()> then) { team_->arrive(count_, then); }

int default_threads() {
  int cores = 0;
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    std::vector<int> cpus;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
    }
    cores = physical_cores(cpus);
  }
#endif
  if (cores == 0) cores = static_cast<int>(std::thread::hardware_concurrency());
  // Rounded down: a thread that the quota stops makes all others wait.
  if (const auto quota = cgroup_cpu_quota()) cores = std::min(cores, static_cast<int>(*quota));
  return std::clamp(cores, 1, Team::kMaxThreads);
}

}  // namespace lapidary
