#pragma once

#include <vector>

#include "kernels/isa.h"

#if defined(__x86_64__) && __has_include(<simde/x86/avx512.h>)
#include "avx512_emulated.inc"
#endif

/// For the tests of the kernels: every table that can run here, the scalar reference last.
namespace lapidary {

inline std::vector<const kernels::Kernels*> all_tables() {
  std::vector<const kernels::Kernels*> tables(8);
  tables.resize(kernels::available(tables.data(), tables.size()));
#if defined(LAPIDARY_EMULATE_AVX512)
  tables.insert(tables.begin(), &kernels::kAvx512EmulatedKernels);
#endif
  return tables;
}

inline const kernels::Kernels& scalar_table() { return kernels::kScalarKernels; }

}  // namespace lapidary
