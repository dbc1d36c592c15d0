#include "peaks.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <ctime>
#include <numeric>
#include <string_view>

namespace lapidary {
namespace {

constexpr int kRounds = 15;
constexpr double kRoundSeconds = 0.01;  // A round lasts at least this long.
constexpr int kChains = 12;             // Sums that do not wait for each other.

/// The best of some rounds of run(iterations), which returns how much work it did.
template <class Run>
double best_rate(Run run) {
  std::uint64_t iterations = 1;
  double best = 0;
  for (int round = 0; round < kRounds;) {
    const double start = thread_seconds();
    const auto work = static_cast<double>(run(iterations));
    const double seconds = thread_seconds() - start;
    if (seconds < kRoundSeconds) {
      iterations *= 2;
      continue;
    }
    best = std::max(best, work / seconds);
    ++round;
  }
  return best;
}

// Vectors of floats as GCC and Clang have them; the instruction is spelled out, for the compiler
// must neither contract nor leave out anything.
#if defined(__x86_64__)
using Double2 = double __attribute__((vector_size(16)));
using Float8 = float __attribute__((vector_size(32)));
using Float16 = float __attribute__((vector_size(64)));

// SSE4.1 has none: a product and a sum of what it emulates one from.
std::uint64_t multiply_add_sse(std::uint64_t iterations) {
  Double2 sums[kChains] = {};
  const Double2 x = Double2{} + 1e-3;
  for (std::uint64_t i = 0; i < iterations; ++i) {
    for (Double2& sum : sums) {
      Double2 product = x;
      asm volatile("mulpd %2, %1\n\taddpd %1, %0" : "+x"(sum), "+x"(product) : "x"(x));
    }
  }
  return iterations * kChains * 2 * 2;
}

__attribute__((target("avx2,fma"))) std::uint64_t fma_avx2(std::uint64_t iterations) {
  Float8 sums[kChains] = {};
  const Float8 x = Float8{} + 1e-3F;
  for (std::uint64_t i = 0; i < iterations; ++i) {
    for (Float8& sum : sums) asm volatile("vfmadd231ps %1, %1, %0" : "+x"(sum) : "x"(x));
  }
  return iterations * kChains * 8 * 2;
}

__attribute__((target("avx512f"))) std::uint64_t fma_avx512(std::uint64_t iterations) {
  Float16 sums[kChains] = {};
  const Float16 x = Float16{} + 1e-3F;
  for (std::uint64_t i = 0; i < iterations; ++i) {
    for (Float16& sum : sums) asm volatile("vfmadd231ps %1, %1, %0" : "+v"(sum) : "v"(x));
  }
  return iterations * kChains * 16 * 2;
}
#elif defined(__aarch64__)
using Float4 = float __attribute__((vector_size(16)));

std::uint64_t fma_neon(std::uint64_t iterations) {
  Float4 sums[kChains] = {};
  const Float4 x = Float4{} + 1e-3F;
  for (std::uint64_t i = 0; i < iterations; ++i) {
    for (Float4& sum : sums) asm volatile("fmla %0.4s, %1.4s, %1.4s" : "+w"(sum) : "w"(x));
  }
  return iterations * kChains * 4 * 2;
}
#endif

/// As the scalar kernels multiply and add: std::fma, whatever the compiler makes of it.
std::uint64_t fma_scalar(std::uint64_t iterations) {
  float sums[kChains] = {};
  volatile float source = 1e-3F;
  const float x = source;
  for (std::uint64_t i = 0; i < iterations; ++i) {
    for (float& sum : sums) sum = std::fma(x, x, sum);
  }
  volatile float sink = std::accumulate(sums, sums + kChains, 0.0F);
  static_cast<void>(sink);
  return iterations * kChains * 2;
}

using Fma = std::uint64_t (*)(std::uint64_t iterations);

Fma fma_of(std::string_view table) {
#if defined(__x86_64__)
  if (table == "sse41") return multiply_add_sse;
  if (table == "avx2" || table == "avxvnni") return fma_avx2;
  if (table == "avx512") return fma_avx512;
#elif defined(__aarch64__)
  if (table == "neon") return fma_neon;
#endif
  static_cast<void>(table);
  return fma_scalar;
}

// Independent sums, so that the loop waits for memory and for nothing else.
std::uint64_t sum_words(std::span<const std::byte> data) {
  constexpr std::size_t kSums = 16;
  const auto* words = reinterpret_cast<const std::uint64_t*>(data.data());
  std::uint64_t sums[kSums] = {};
  for (std::size_t i = 0; i + kSums <= data.size() / sizeof(std::uint64_t); i += kSums) {
    for (std::size_t j = 0; j < kSums; ++j) sums[j] += words[i + j];
  }
  return std::accumulate(sums, sums + kSums, std::uint64_t{0});
}

}  // namespace

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

TablePeaks measure_peaks(const kernels::Kernels& table) {
  return {best_rate(table.int8_peak), best_rate(fma_of(table.name))};
}

double measure_reads(std::span<const std::byte> data) {
  std::uint64_t total = 0;
  const double rate = best_rate([&](std::uint64_t iterations) {
    for (std::uint64_t i = 0; i < iterations; ++i) {
      total += sum_words(data);
      asm volatile("" : "+r"(total) : : "memory");  // Nothing leaves the loop.
    }
    return iterations * data.size();
  });
  return rate;
}

}  // namespace lapidary
