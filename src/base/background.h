#pragma once

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <thread>

namespace lapidary {

/// A thread beside the caller's that does one thing. Whoever loses interest need not wait for it: a
/// thread that is not done when its Background goes is joined when the next one is started, or when
/// the library is left. None is ever detached.
class Background {
 public:
  Background() = default;
  ~Background();
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  /// Starts `body`, which must own all that it uses and throw nothing; once only. False where no
  /// thread can be made. Throws std::bad_alloc.
  bool start(std::function<void()> body);

  /// Waits until it is done, where it was started.
  void join();

 private:
  friend class Leftovers;
  struct Job {
    std::thread thread;
    std::shared_ptr<std::atomic<bool>> ended;
    pid_t process;  // That has the thread: a fork's child does not.
  };
  static void finish(std::list<Job>& jobs);

  std::list<Job> job_;  // One or none: a list, so that handing it over takes no memory.
};

}  // namespace lapidary
