#include "base/team.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cfenv>
#include <chrono>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "failing_threads.h"
#include "lapidary/error.h"

namespace lapidary {
namespace {

class TeamOf : public testing::TestWithParam<int> {};

TEST_P(TeamOf, RunsEveryWorkerOnce) {
  Team team(GetParam());
  EXPECT_EQ(team.threads(), GetParam());
  std::vector<std::atomic<int>> seen(static_cast<std::size_t>(GetParam()));
  std::atomic<int> count = 0;
  team.run([&](Worker& worker) {
    ++seen[static_cast<std::size_t>(worker.index())];
    count = worker.count();
  });
  ASSERT_LE(count, GetParam());
  for (int i = 0; i < GetParam(); ++i)
    EXPECT_EQ(seen[static_cast<std::size_t>(i)], i < count ? 1 : 0);
}

// What one for_each writes, the next one reads on any thread: order, completeness and visibility in
// one.
TEST_P(TeamOf, PhasesSeeAllOfThePhaseBefore) {
  constexpr int kTasks = 37;
  constexpr int kPhases = 1000;
  Team team(GetParam());
  std::vector<int> current(kTasks, 0);
  std::vector<int> next(kTasks, 0);
  for (int run = 0; run < 3; ++run) {
    std::fill(current.begin(), current.end(), 1);
    team.run([&](Worker& worker) {
      for (int phase = 0; phase < kPhases; ++phase) {
        std::vector<int>& from = phase % 2 == 0 ? current : next;
        std::vector<int>& to = phase % 2 == 0 ? next : current;
        worker.for_each(kTasks, [&](int i) {
          const auto at = static_cast<std::size_t>(i);
          to[at] = from[(at + 11) % kTasks] + 1;
        });
      }
    });
    for (const int value : current) ASSERT_EQ(value, kPhases + 1);
  }
}

TEST_P(TeamOf, TasksRunOnceEach) {
  Team team(GetParam());
  for (const int tasks : {0, 1, 2, 1000}) {
    std::vector<std::atomic<int>> seen(static_cast<std::size_t>(tasks));
    team.run([&](Worker& worker) {
      worker.for_each(tasks, [&](int i) { ++seen[static_cast<std::size_t>(i)]; });
      worker.barrier();
      worker.for_each(tasks, [&](int i) { ++seen[static_cast<std::size_t>(i)]; });
    });
    for (const std::atomic<int>& times : seen) ASSERT_EQ(times, 2);
  }
}

// Plain integers, so that ThreadSanitizer sees whether all tasks are ordered before, and all
// workers behind, what is run at the barrier.
TEST_P(TeamOf, WhatABarrierRunsIsRunOnceBetweenTheTwoPhases) {
  constexpr int kTasks = 23;
  constexpr int kPhases = 500;
  Team team(GetParam());
  std::vector<int> parts(kTasks, 0);
  int sum = 0;
  int runs = 0;
  team.run([&](Worker& worker) {
    for (int phase = 1; phase <= kPhases; ++phase) {
      worker.for_each(
          kTasks, [&](int i) { parts[static_cast<std::size_t>(i)] = sum + i; },
          [&] {
            ++runs;
            sum = 0;
            for (const int part : parts) sum += part;
            sum %= 1000;
          });
    }
  });
  int expected = 0;
  for (int phase = 0; phase < kPhases; ++phase)
    expected = (kTasks * expected + kTasks * (kTasks - 1) / 2) % 1000;
  EXPECT_EQ(sum, expected);
  EXPECT_EQ(runs, kPhases);
}

// One worker is late for longer than the others spin, so they sleep and must be woken.
TEST_P(TeamOf, LateWorkersAreWaitedFor) {
  Team team(GetParam());
  std::atomic<int> before = 0;
  std::atomic<bool> good = true;
  team.run([&](Worker& worker) {
    for (int round = 1; round <= 5; ++round) {
      if (worker.index() == round % worker.count()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(3));
      }
      ++before;
      worker.barrier();
      if (before != round * worker.count()) good = false;
      worker.barrier();
    }
  });
  EXPECT_TRUE(good);
}

TEST_P(TeamOf, ExceptionsComeBackAndTheTeamGoesOn) {
  Team team(GetParam());
  for (int thrower = 0; thrower < GetParam(); ++thrower) {
    std::atomic<int> count = 0;
    const auto body = [&](Worker& worker) {
      count = worker.count();
      worker.barrier();
      if (worker.index() == thrower) throw Error(ErrorCode::kFile, "from a worker");
      for (int i = 0; i < 10; ++i) worker.for_each(5, [](int) {});
    };
    try {
      team.run(body);
      EXPECT_GE(thrower, count) << "the exception was lost";
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(), "from a worker");
    }
  }
  // Inside of a for_each, while the others wait in its barrier; more than one may throw.
  EXPECT_THROW(team.run([](Worker& worker) {
    worker.for_each(100, [](int i) {
      if (i % 20 == 19) throw std::runtime_error("from a task");
    });
  }),
               std::runtime_error);
  EXPECT_THROW(team.run([](Worker& worker) {
    worker.for_each(
        3, [](int) {}, [] { throw std::runtime_error("at the barrier"); });
  }),
               std::runtime_error);
  std::atomic<int> sum = 0;
  team.run([&](Worker& worker) { worker.for_each(100, [&](int i) { sum += i; }); });
  EXPECT_EQ(sum, 4950);
}

TEST_P(TeamOf, FlushesDenormalsInsideAndRestoresOutside) {
  Team team(GetParam());
  volatile float small = std::numeric_limits<float>::min();
  ASSERT_NE(small / 2, 0.0F) << "the caller flushes already";
  std::fesetround(FE_UPWARD);
  std::atomic<bool> flushed = true;
  std::atomic<bool> nearest = true;
  team.run([&](Worker&) {
    if (small / 2 != 0.0F) flushed = false;
    volatile float one = 1.0F;
    if (one + small != 1.0F) nearest = false;
  });
  const int rounding = std::fegetround();
  std::fesetround(FE_TONEAREST);
#if defined(__x86_64__) || defined(__aarch64__)
  EXPECT_TRUE(flushed);
  EXPECT_TRUE(nearest);
#endif
  EXPECT_EQ(rounding, FE_UPWARD);
  EXPECT_NE(small / 2, 0.0F);
}

TEST_P(TeamOf, ExceptionKeepsOthersFromTakingTheThrowersTasks) {
  Team team(GetParam());
  constexpr int kTasks = 1000;
  std::atomic<int> done = 0;
  EXPECT_THROW(team.run([&](Worker& worker) {
    worker.for_each(kTasks, [&](int) {
      if (worker.index() == 0) throw std::runtime_error("from the first task");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      ++done;
    });
  }),
               std::runtime_error);
  EXPECT_LT(done, kTasks / 2);
}

TEST_P(TeamOf, CancelBeginsNoMoreTasks) {
  Team team(GetParam());
  constexpr int kTasks = 1000;
  std::atomic<bool> cancel = false;
  std::atomic<int> done = 0;
  const auto body = [&](Worker& worker) {
    worker.for_each(kTasks, [&](int) {
      if (++done == 10) cancel = true;
    });
    worker.for_each(kTasks, [&](int) { ++done; });
  };
  try {
    team.run(body, &cancel);
    ADD_FAILURE() << "was not interrupted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInterrupted);
  }
  EXPECT_LT(done, 10 + kTasks);
  done = 0;
  cancel = false;
  team.run([&](Worker& worker) { worker.for_each(kTasks, [&](int) { ++done; }); }, &cancel);
  EXPECT_EQ(done, kTasks);
}

TEST_P(TeamOf, OutsideIsTheCallersOwnFloatingPoint) {
  Team team(GetParam());
  volatile float small = std::numeric_limits<float>::min();
  std::fesetround(FE_UPWARD);
  bool denormal = false, flushed_again = false;
  int rounding = FE_TONEAREST;
  team.run([&](Worker& worker) {
    if (worker.index() != 0) return;
    worker.outside([&] {
      denormal = small / 2 != 0.0F;
      rounding = std::fegetround();
    });
    flushed_again = small / 2 == 0.0F;
  });
  std::fesetround(FE_TONEAREST);
  EXPECT_TRUE(denormal);
  EXPECT_EQ(rounding, FE_UPWARD);
#if defined(__x86_64__) || defined(__aarch64__)
  EXPECT_TRUE(flushed_again);
#endif
}

INSTANTIATE_TEST_SUITE_P(Threads, TeamOf, testing::Values(1, 2, 3, 7),
                         [](const auto& test) { return std::to_string(test.param); });

TEST(Team, TwoTeamsOnTwoThreads) {
  std::atomic<int> sum = 0;
  const auto use = [&sum] {
    Team team(2);
    for (int run = 0; run < 50; ++run) {
      team.run([&](Worker& worker) {
        for (int i = 0; i < 20; ++i) worker.for_each(3, [&](int) { ++sum; });
      });
    }
  };
  std::thread first(use);
  std::thread second(use);
  first.join();
  second.join();
  EXPECT_EQ(sum, 2 * 50 * 20 * 3);
}

TEST(Team, RefusesAbsurdThreads) {
  for (const int threads : {-1, Team::kMaxThreads + 1}) {
    try {
      Team team(threads);
      ADD_FAILURE() << threads;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
    }
  }
}

TEST(Team, SaysHowManyThreadsCouldBeMade) {
  if (LAPIDARY_FAILS_THREADS == 0) GTEST_SKIP() << "the sanitizer makes the threads";
  for (const int possible : {0, 1, 3, 6}) {
    const injection::OnlyThreads only(possible);
    try {
      Team team(8);
      ADD_FAILURE() << "was made of " << possible << " threads";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kFailed);
      const std::string text = error.what();
      EXPECT_NE(text.find("8 were asked for"), std::string::npos) << text;
      EXPECT_NE(text.find("only " + std::to_string(possible + 1)), std::string::npos) << text;
    }
  }
  std::atomic<int> sum = 0;
  Team(8).run([&](Worker& worker) { worker.for_each(100, [&](int) { ++sum; }); });
  EXPECT_EQ(sum, 100);
}

TEST(Team, GoesAwayInTheChildOfAFork) {
  auto team = std::make_unique<Team>(3);
  team->run([](Worker&) {});
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::alarm(5);  // Ends a child that hangs.
    team.reset();
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(Team, DefaultIsAtLeastOneAndNoMoreThanTheMachineHas) {
  EXPECT_GE(default_threads(), 1);
  EXPECT_LE(default_threads(), static_cast<int>(std::thread::hardware_concurrency()));
  EXPECT_EQ(Team(0).threads(), default_threads());
}

}  // namespace
}  // namespace lapidary
