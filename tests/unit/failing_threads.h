#pragma once

// Takes the place of pthread_create, so that threads cannot be made. For one file of a test.

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>

// The sanitizers take its place themselves.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LAPIDARY_FAILS_THREADS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define LAPIDARY_FAILS_THREADS 0
#endif
#endif
#ifndef LAPIDARY_FAILS_THREADS
#define LAPIDARY_FAILS_THREADS 1
#endif

namespace injection {

/// Threads that may still be made; negative: any number.
inline std::atomic<int> threads_left{-1};
inline std::atomic<int> threads_made{0};

/// Lets `count` more be made for its lifetime.
class OnlyThreads {
 public:
  explicit OnlyThreads(int count) { threads_left = count; }
  ~OnlyThreads() { threads_left = -1; }
  OnlyThreads(const OnlyThreads&) = delete;
  OnlyThreads& operator=(const OnlyThreads&) = delete;
};

}  // namespace injection

#if LAPIDARY_FAILS_THREADS
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*body)(void*), void* argument) noexcept {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const Create create = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  const int left = injection::threads_left.load();
  if (left == 0) return EAGAIN;
  if (left > 0) injection::threads_left = left - 1;
  ++injection::threads_made;
  return create(thread, attributes, body, argument);
}
#endif
