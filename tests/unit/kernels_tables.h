#pragma once

#include <vector>

#include "kernels/isa.h"

/// For the tests of the kernels: every table that can run here, the scalar reference last.
namespace lapidary {

/// The AVX-512 kernels on emulated intrinsics (avx512_emulated.cpp); nullptr where they cannot be
/// built.
const kernels::Kernels* emulated_avx512_table();

inline std::vector<const kernels::Kernels*> all_tables() {
  const kernels::Tables found = kernels::available();
  std::vector<const kernels::Kernels*> tables(found.begin(), found.end());
  if (const kernels::Kernels* emulated = emulated_avx512_table())
    tables.insert(tables.begin(), emulated);
  return tables;
}

inline const kernels::Kernels& scalar_table() { return kernels::kScalar.table; }

}  // namespace lapidary
