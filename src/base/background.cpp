#include "base/background.h"

#include <sys/types.h>
#include <unistd.h>

#include <iterator>
#include <mutex>
#include <system_error>
#include <utility>

namespace lapidary {

/// Threads that nobody waits for any more.
class Leftovers {
 public:
  using Jobs = std::list<Background::Job>;

  static Leftovers& instance() {
    static Leftovers leftovers;
    return leftovers;
  }

  void take(Jobs& job) {
    const std::lock_guard lock(mutex_);
    jobs_.splice(jobs_.end(), job);
  }

  void join_ended() {
    Jobs ended;
    {
      const std::lock_guard lock(mutex_);
      for (auto job = jobs_.begin(); job != jobs_.end();) {
        const auto next = std::next(job);
        if (job->ended->load(std::memory_order_acquire)) ended.splice(ended.end(), jobs_, job);
        job = next;
      }
    }
    for (Background::Job& job : ended) job.thread.join();
  }

  ~Leftovers() {
    if (process_ != ::getpid()) {
      // A fork's child has none of these threads: they are left as they are, memory and all.
      static_cast<void>(new (std::nothrow) Jobs(std::move(jobs_)));
      return;
    }
    for (Background::Job& job : jobs_) job.thread.join();
  }

 private:
  Leftovers() = default;

  std::mutex mutex_;
  Jobs jobs_;
  pid_t process_ = ::getpid();
};

Background::~Background() {
  if (job_.empty()) return;
  if (job_.front().ended->load(std::memory_order_acquire)) {
    job_.front().thread.join();
  } else {
    Leftovers::instance().take(job_);
  }
}

bool Background::start(std::function<void()> body) {
  Leftovers::instance().join_ended();
  const auto ended = std::make_shared<std::atomic<bool>>(false);
  std::list<Job> job;
  job.push_back({{}, ended});
  try {
    job.front().thread = std::thread([ended, run = std::move(body)]() mutable {
      run();
      run = nullptr;  // What it owned goes before it counts as ended.
      ended->store(true, std::memory_order_release);
    });
  } catch (const std::system_error&) {
    return false;
  }
  job_ = std::move(job);
  return true;
}

}  // namespace lapidary
