#include <cstring>
#include <type_traits>

#include "kernels/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace lapidary::kernels {
namespace {

#if defined(__x86_64__)
// Which vector registers the operating system saves (XCR0): bits 1–2 for ymm, 5–7 for zmm.
std::uint64_t enabled_state() {
  unsigned low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<std::uint64_t>(high) << 32 | low;
}

struct Features {
  bool avx2 = false;
  bool avxvnni = false;
  bool avx512 = false;
};

Features detect() {
  Features found;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0) return found;
  const bool osxsave = (c >> 27 & 1U) != 0, fma = (c >> 12 & 1U) != 0, f16c = (c >> 29 & 1U) != 0;
  if (!osxsave || !fma || !f16c) return found;
  const std::uint64_t state = enabled_state();
  if ((state & 0x06U) != 0x06U || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return found;
  found.avx2 = (b >> 5 & 1U) != 0;
  const bool f = (b >> 16 & 1U) != 0, dq = (b >> 17 & 1U) != 0, bw = (b >> 30 & 1U) != 0,
             vl = (b >> 31 & 1U) != 0;
  const bool vnni = (c >> 11 & 1U) != 0;
  unsigned a1 = 0, b1 = 0, c1 = 0, d1 = 0;
  const bool more = __get_cpuid_count(7, 1, &a1, &b1, &c1, &d1) != 0;
  found.avxvnni = found.avx2 && more && (a1 >> 4 & 1U) != 0;
  found.avx512 = found.avx2 && f && dq && bw && vl && vnni && (state & 0xE6U) == 0xE6U;
  return found;
}

bool is_intel() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0, &a, &b, &c, &d) == 0) return false;
  return b == signature_INTEL_ebx && c == signature_INTEL_ecx && d == signature_INTEL_edx;
}
#elif defined(__aarch64__)
bool has_dot_products() {
#if defined(__linux__)
  constexpr unsigned long kDotProducts = 1UL << 20;  // HWCAP_ASIMDDP
  return (getauxval(AT_HWCAP) & kDotProducts) != 0;
#else
  return true;
#endif
}
#endif

/// A table of this build, and whether this machine can run it.
struct Entry {
  const Kernels* table;
  bool runs;
};

/// Every table of this build, best first: the one place that lists them.
const auto& registry() {
#if defined(__x86_64__)
  static const Features features = detect();
  static const Entry entries[] = {{&kAvx512Kernels, features.avx512},
                                  {&kAvxVnniKernels, features.avxvnni},
                                  {&kAvx2Kernels, features.avx2},
                                  {&kScalarKernels, true}};
#elif defined(__aarch64__)
  static const Entry entries[] = {{&kNeonKernels, has_dot_products()}, {&kScalarKernels, true}};
#else
  static const Entry entries[] = {{&kScalarKernels, true}};
#endif
  return entries;
}

/// Those that run, in the same order.
struct Available {
  const Kernels* tables[std::extent_v<std::remove_reference_t<decltype(registry())>>];
  std::size_t count = 0;

  Available() : tables() {
    for (const Entry& entry : registry()) {
      if (entry.runs) tables[count++] = entry.table;
    }
  }
};

}  // namespace

#if defined(__x86_64__)
const bool kPrefetchesToSecondLevel = is_intel();
#else
const bool kPrefetchesToSecondLevel = false;
#endif

Tables available() {
  static const Available found;
  return {found.tables, found.tables + found.count};
}

const Kernels* find(const char* name) {
  for (const Kernels* table : available()) {
    if (std::strcmp(table->name, name) == 0) return table;
  }
  return nullptr;
}

const Kernels* best() { return *available().begin(); }

}  // namespace lapidary::kernels
