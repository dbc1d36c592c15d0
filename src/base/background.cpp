#include "base/background.h"

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
    Background::finish(ended);
  }

  ~Leftovers() { Background::finish(jobs_); }

 private:
  Leftovers() = default;

  std::mutex mutex_;
  Jobs jobs_;
};

void Background::finish(std::list<Job>& jobs) {
  for (auto job = jobs.begin(); job != jobs.end(); job = jobs.erase(job)) {
    if (job->process == ::getpid()) {
      job->thread.join();
    } else {
      // There is nothing to join: the handle is forgotten, whatever memory it has.
      new (&job->thread) std::thread;
    }
  }
}

void Background::join() { finish(job_); }

Background::~Background() {
  if (job_.empty()) return;
  const Job& job = job_.front();
  if (job.process != ::getpid() || job.ended->load(std::memory_order_acquire)) {
    join();
  } else {
    Leftovers::instance().take(job_);
  }
}

bool Background::start(std::function<void()> body) {
  Leftovers::instance().join_ended();
  const auto ended = std::make_shared<std::atomic<bool>>(false);
  std::list<Job> job;
  job.push_back({{}, ended, ::getpid()});
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
