// misuse MODEL: uses the library as nobody should. Every misuse is an Error(kUsage) that harms
// nothing, and what is left over ends with the process.

#include <lapidary/lapidary.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "check.h"

#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZER 1
#endif
#endif

namespace {

using lapidary::ErrorCode;
using lapidary::Model;
using lapidary::Session;

// Destroyed when the program has left main(), in whichever order.
Model global_model;
Session global_session;

Session started(int threads) {
  Session session(global_model, {.context = 512, .threads = threads});
  session.append(lapidary::text_prompt(global_model.tokenizer(), "Once"));
  return session;
}

void empty_objects() {
  expect_error(ErrorCode::kUsage, "empty", [] { Model().info(); });
  expect_error(ErrorCode::kUsage, "empty", [] { Session().append(lapidary::Prompt()); });
  expect_error(ErrorCode::kUsage, "empty", [] { Session(Model{}); });
  expect_error(ErrorCode::kUsage, "empty", [] { lapidary::Image().width(); });
  expect_error(ErrorCode::kUsage, "empty", [] { lapidary::Tokenizer().encode("a"); });
  expect_error(ErrorCode::kUsage, "empty", [] { lapidary::Reply().begin(); });
  Session session = started(1);
  const Session moved = std::move(session);
  expect_error(ErrorCode::kUsage, "empty", [&] { session.generate({}); });  // NOLINT
}

void calls_from_callbacks() {
  Session session = started(2);
  int refused = 0;
  session.generate({.max_tokens = 4}, [&](std::string_view) {
    expect_error(ErrorCode::kUsage, "in use", [&] { session.clear(); });
    ++refused;
    return true;
  });
  expect(refused > 0, "a callback was called");
  expect(session.position() > 0, "the session is as it was");
}

/// The second thread is told at once: nothing waits, nothing is mixed up.
void two_threads() {
  Session session = started(2);
  std::atomic<bool> entered = false, left = false;
  std::thread second([&] {
    while (!entered) std::this_thread::yield();
    expect_error(ErrorCode::kUsage, "in use", [&] { session.generate({.max_tokens = 1}); });
    left = true;
  });
  session.generate({.max_tokens = 400}, [&](std::string_view) {
    entered = true;
    while (!left) std::this_thread::yield();
    return false;
  });
  entered = true;
  second.join();
}

/// In a fork's child the session is refused; the model is as good there, for a session of its own.
void forks() {
#if !THREAD_SANITIZER  // It does not follow threads into a child.
  Session session = started(2);
  const pid_t child = ::fork();
  if (child == 0) {
    failures = 0;
    expect_error(ErrorCode::kUsage, "fork", [&] { session.generate({.max_tokens = 1}); });
    Session own = started(2);
    expect(own.generate({.max_tokens = 2}).ids.size() == 2, "the child's own session works");
    ::_exit(failures == 0 ? 0 : 1);
  }
  int status = -1;
  expect(child > 0 && ::waitpid(child, &status, 0) == child && status == 0, "the child is content");
  expect(session.generate({.max_tokens = 2}).ids.size() == 2, "the parent goes on");
#endif
}

/// Dropped half read, replaced, or left behind by a thread that has ended.
void left_halfway() {
  Session session = started(2);
  {
    lapidary::Reply reply = session.reply({.max_tokens = 100});
    auto first = reply.begin();
    expect(first != reply.end(), "a first piece");
  }
  expect(!session.generate({.max_tokens = 2}).ids.empty(), "a reply that is dropped harms nothing");
  std::thread([] { global_session = started(2); }).join();
  expect(!global_session.generate({.max_tokens = 2}).ids.empty(), "a session may change threads");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: misuse MODEL\n";
    return 2;
  }
  global_model = Model::load(argv[1]);
  empty_objects();
  calls_from_callbacks();
  two_threads();
  forks();
  left_halfway();
  std::cout << failures << " failures" << std::endl;
  return failures == 0 ? 0 : 1;
}
