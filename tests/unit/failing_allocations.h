#pragma once

// Takes the place of operator new, to let it fail and to see what is not given back. For one file
// of a test.

#include <atomic>
#include <cstdlib>
#include <new>

namespace injection {

enum class Failing { kOne, kAllBehind };  // The allocation asked for, or all from it on.
enum class Where { kHere, kElsewhere };   // On the thread that asks, or on all others.

inline std::atomic<long> live{0};    // Allocations that are not given back, on all threads.
inline std::atomic<long> seen{0};    // Since the last FailAllocation was made.
inline std::atomic<long> failed{0};  // Of those, how many failed.
inline std::atomic<long> target{-1};
inline std::atomic<Failing> failing{Failing::kOne};
inline std::atomic<Where> where{Where::kHere};
inline thread_local bool here = false;

/// For its lifetime, lets allocation `number` (from 0) fail.
class FailAllocation {
 public:
  FailAllocation(long number, Failing how, Where place = Where::kHere) {
    seen = failed = 0;
    failing = how;
    where = place;
    here = true;
    target = number;
  }
  ~FailAllocation() {
    target = -1;
    here = false;
  }
  FailAllocation(const FailAllocation&) = delete;
  FailAllocation& operator=(const FailAllocation&) = delete;
};

inline bool fails_now() {
  const long number = target.load(std::memory_order_relaxed);
  if (number < 0 || here != (where.load() == Where::kHere)) return false;
  const long own = seen.fetch_add(1);
  const bool fails = failing.load() == Failing::kOne ? own == number : own >= number;
  if (fails) ++failed;
  return fails;
}

inline void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
  if (fails_now()) return nullptr;
  const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* const memory = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded);
  if (memory != nullptr) ++live;
  return memory;
}

inline void* allocate_or_throw(std::size_t bytes, std::size_t alignment) {
  void* const memory = allocate(bytes, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

inline void release(void* memory) noexcept {
  if (memory != nullptr) --live;
  std::free(memory);
}

inline constexpr std::size_t kAlignment = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

}  // namespace injection

// Not inlined: GCC would warn of free() on what new gave.
[[gnu::noinline]] void* operator new(std::size_t n) {
  return injection::allocate_or_throw(n, injection::kAlignment);
}
[[gnu::noinline]] void* operator new[](std::size_t n) {
  return injection::allocate_or_throw(n, injection::kAlignment);
}
[[gnu::noinline]] void* operator new(std::size_t n, std::align_val_t alignment) {
  return injection::allocate_or_throw(n, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void* operator new[](std::size_t n, std::align_val_t alignment) {
  return injection::allocate_or_throw(n, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
  return injection::allocate(n, injection::kAlignment);
}
[[gnu::noinline]] void* operator new[](std::size_t n, const std::nothrow_t&) noexcept {
  return injection::allocate(n, injection::kAlignment);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { injection::release(p); }
[[gnu::noinline]] void operator delete[](void* p) noexcept { injection::release(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { injection::release(p); }
[[gnu::noinline]] void operator delete[](void* p, std::size_t) noexcept { injection::release(p); }
[[gnu::noinline]] void operator delete(void* p, const std::nothrow_t&) noexcept {
  injection::release(p);
}
[[gnu::noinline]] void operator delete[](void* p, const std::nothrow_t&) noexcept {
  injection::release(p);
}
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept {
  injection::release(p);
}
[[gnu::noinline]] void operator delete[](void* p, std::align_val_t) noexcept {
  injection::release(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  injection::release(p);
}
[[gnu::noinline]] void operator delete[](void* p, std::size_t, std::align_val_t) noexcept {
  injection::release(p);
}
