#pragma once

#include <cstddef>
#include <cstdint>

/// The names that compilers have for what a processor may be able to do, and where the processor
/// says whether it is: a target string is its own test, so the two cannot disagree.
namespace lapidary::kernels {

#if defined(__x86_64__)
enum class CpuidRegister : std::uint8_t { kEax, kEbx, kEcx, kEdx };

/// XCR0's bits of the vector registers that the operating system saves.
inline constexpr std::uint64_t kXmm = 0, kYmm = 0x06, kZmm = 0xE6;

struct Feature {
  const char* name;
  unsigned leaf, subleaf;  // Of CPUID, …
  CpuidRegister where;     // … and what of it.
  unsigned bit;
  std::uint64_t saved;
};

inline constexpr Feature kFeatures[] = {
    {"sse3", 1, 0, CpuidRegister::kEcx, 0, kXmm},
    {"ssse3", 1, 0, CpuidRegister::kEcx, 9, kXmm},
    {"sse4.1", 1, 0, CpuidRegister::kEcx, 19, kXmm},
    {"fma", 1, 0, CpuidRegister::kEcx, 12, kYmm},
    {"f16c", 1, 0, CpuidRegister::kEcx, 29, kYmm},
    {"avx2", 7, 0, CpuidRegister::kEbx, 5, kYmm},
    {"avxvnni", 7, 1, CpuidRegister::kEax, 4, kYmm},
    {"sha", 7, 0, CpuidRegister::kEbx, 29, kXmm},
    {"avx512f", 7, 0, CpuidRegister::kEbx, 16, kZmm},
    {"avx512dq", 7, 0, CpuidRegister::kEbx, 17, kZmm},
    {"avx512bw", 7, 0, CpuidRegister::kEbx, 30, kZmm},
    {"avx512vl", 7, 0, CpuidRegister::kEbx, 31, kZmm},
    {"avx512vnni", 7, 0, CpuidRegister::kEcx, 11, kZmm},
};
#elif defined(__aarch64__)
struct Feature {
  const char* name;
  unsigned long capability;  // Of Linux's AT_HWCAP.
};

inline constexpr Feature kFeatures[] = {{"arch=armv8.2-a+dotprod", 1UL << 20}};  // HWCAP_ASIMDDP
#else
struct Feature {
  const char* name;
};

inline constexpr Feature kFeatures[] = {{""}};
#endif

/// Whether `holds(feature)` for each name of `target`, which are separated by commas; false where
/// one of them is in no list.
template <class Holds>
constexpr bool each_feature(const char* target, Holds holds) {
  while (*target != '\0') {
    bool known = false;
    for (const Feature& feature : kFeatures) {
      std::size_t n = 0;
      while (feature.name[n] != '\0' && feature.name[n] == target[n]) ++n;
      if (feature.name[n] != '\0' || (target[n] != '\0' && target[n] != ',')) continue;
      if (!holds(feature)) return false;
      known = true;
      target += target[n] == ',' ? n + 1 : n;
      break;
    }
    if (!known) return false;
  }
  return true;
}

/// Whether kernels.cpp can test all that `target` names.
constexpr bool is_known_target(const char* target) {
  return each_feature(target, [](const Feature&) { return true; });
}

}  // namespace lapidary::kernels
