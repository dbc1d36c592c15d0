#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace lapidary {

/// Sets the floating-point environment that results are defined in, and restores the thread's own:
/// denormals are flushed, rounding is to nearest, no exception traps.
class FloatEnvironment {
 public:
  FloatEnvironment() : saved_(get()) { set(kOurs); }
  ~FloatEnvironment() { set(saved_); }
  FloatEnvironment(const FloatEnvironment&) = delete;
  FloatEnvironment& operator=(const FloatEnvironment&) = delete;

  /// The thread's own environment again, for its lifetime: for calls back into the host.
  class Outside {
   public:
    explicit Outside(const FloatEnvironment& inside) { set(inside.saved_); }
    ~Outside() { set(kOurs); }
    Outside(const Outside&) = delete;
    Outside& operator=(const Outside&) = delete;
  };

 private:
#if defined(__x86_64__)
  using Register = unsigned int;
  static constexpr Register kOurs = 0x1F80 | 0x8040;  // All masked; FTZ and DAZ.
  static Register get() { return _mm_getcsr(); }
  static void set(Register value) { _mm_setcsr(value); }
#elif defined(__aarch64__)
  using Register = std::uint64_t;
  static constexpr Register kOurs = Register{1} << 24;  // FZ.
  static Register get() {
    Register value = 0;
    asm volatile("mrs %0, fpcr" : "=r"(value));
    return value;
  }
  static void set(Register value) { asm volatile("msr fpcr, %0" : : "r"(value)); }
#else
  using Register = int;
  static constexpr Register kOurs = 0;
  static Register get() { return 0; }
  static void set(Register) {}
#endif

  Register saved_;
};

}  // namespace lapidary
