#include "kernels/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace lapidary::kernels {
namespace {

#if defined(__x86_64__)
// Which vector registers the operating system saves; 0 where it keeps that to itself.
std::uint64_t saved_registers() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c >> 27 & 1U) == 0) return 0;  // OSXSAVE
  unsigned low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<std::uint64_t>(high) << 32 | low;
}

bool has(const Feature& feature) {
  unsigned found[4] = {};
  if (__get_cpuid_count(feature.leaf, feature.subleaf, &found[0], &found[1], &found[2],
                        &found[3]) == 0)
    return false;
  const bool in_processor = (found[static_cast<int>(feature.where)] >> feature.bit & 1U) != 0;
  return in_processor && (saved_registers() & feature.saved) == feature.saved;
}

bool is_intel() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0, &a, &b, &c, &d) == 0) return false;
  return b == signature_INTEL_ebx && c == signature_INTEL_ecx && d == signature_INTEL_edx;
}
#elif defined(__aarch64__) && defined(__linux__)
bool has(const Feature& feature) { return (getauxval(AT_HWCAP) & feature.capability) != 0; }
#else
bool has(const Feature&) { return true; }
#endif

/// Every instruction set of this build, best first: the one place that lists them.
constexpr const InstructionSet* kRegistry[] = {
#if defined(__x86_64__)
    &kAvx512, &kAvxVnni, &kAvx2, &kSse41,
#elif defined(__aarch64__)
    &kNeon,
#endif
    &kScalar};

/// Those that run, in the same order.
struct Available {
  const Kernels* tables[std::extent_v<decltype(kRegistry)>];
  std::size_t count = 0;

  Available() : tables() {
    for (const InstructionSet* set : kRegistry) {
      if (each_feature(set->target, has)) tables[count++] = &set->table;
    }
  }
};

}  // namespace

#if defined(__x86_64__)
const bool kPrefetchesToSecondLevel = is_intel();
#else
const bool kPrefetchesToSecondLevel = false;
#endif

bool has_target(const char* target) { return each_feature(target, has); }

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
