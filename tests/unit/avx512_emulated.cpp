// The lanes of AVX-512 and the fragments on them, compiled with emulated intrinsics: their logic is
// tested on machines without AVX-512. SIMDe emulates most; what it lacks, or does with other
// rounding (its fma is two roundings), follows here. One object for all tests of the kernels: it
// takes minutes to compile.

#include "kernels_tables.h"

#if defined(__x86_64__) && __has_include(<simde/x86/avx512.h>)

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#include "kernels/isa.h"

namespace lapidary::emulation {

template <class To, class From>
inline To as(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

struct Floats {
  float lane[16];
};
struct Ints {
  std::int32_t lane[16];
};

inline __m512 fmadd(__m512 x, __m512 y, __m512 z) {
  Floats a = as<Floats>(x);
  const Floats b = as<Floats>(y), c = as<Floats>(z);
  for (int i = 0; i < 16; ++i) a.lane[i] = std::fma(a.lane[i], b.lane[i], c.lane[i]);
  return as<__m512>(a);
}
// As vmaxps and vminps: the second operand where the comparison is false.
inline __m512 maximum(__m512 x, __m512 y) {
  Floats a = as<Floats>(x);
  const Floats b = as<Floats>(y);
  for (int i = 0; i < 16; ++i) a.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
  return as<__m512>(a);
}
inline __m512 minimum(__m512 x, __m512 y) {
  Floats a = as<Floats>(x);
  const Floats b = as<Floats>(y);
  for (int i = 0; i < 16; ++i) a.lane[i] = a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i];
  return as<__m512>(a);
}
inline __m512i float_to_int(__m512 x) {
  const Floats a = as<Floats>(x);
  Ints out;
  for (int i = 0; i < 16; ++i) out.lane[i] = static_cast<std::int32_t>(std::nearbyint(a.lane[i]));
  return as<__m512i>(out);
}
inline __m512 int_to_float(__m512i x) {
  const Ints a = as<Ints>(x);
  Floats out;
  for (int i = 0; i < 16; ++i) out.lane[i] = static_cast<float>(a.lane[i]);
  return as<__m512>(out);
}
inline __m512 half_to_single(__m256i x) {
  struct Halves {
    std::uint16_t lane[16];
  };
  const Halves a = as<Halves>(x);
  Floats out;
  for (int i = 0; i < 16; ++i) out.lane[i] = kernels::half_to_float(a.lane[i]);
  return as<__m512>(out);
}
template <class Byte>
inline __m512i widen_bytes(__m128i x) {
  struct Bytes {
    Byte lane[16];
  };
  const Bytes a = as<Bytes>(x);
  Ints out;
  for (int i = 0; i < 16; ++i) out.lane[i] = a.lane[i];
  return as<__m512i>(out);
}
template <class Lane, class Register>
Register narrow_lanes(__m512i x) {
  struct Lanes {
    Lane lane[16];
  };
  const Ints a = as<Ints>(x);
  Lanes out;
  for (int i = 0; i < 16; ++i) out.lane[i] = static_cast<Lane>(a.lane[i]);
  return as<Register>(out);
}
inline __m128i saturate_to_bytes(__m512i x) {
  struct Unsigned {
    std::uint32_t lane[16];
  };
  struct Bytes {
    std::uint8_t lane[16];
  };
  const Unsigned a = as<Unsigned>(x);
  Bytes out;
  for (int i = 0; i < 16; ++i)
    out.lane[i] = static_cast<std::uint8_t>(a.lane[i] < 255 ? a.lane[i] : 255);
  return as<__m128i>(out);
}
inline __m256 half_of(__m512 x, int index) {
  struct Halves {
    __m256 half[2];
  };
  return as<Halves>(x).half[index];
}

}  // namespace lapidary::emulation

#undef _mm512_madd_epi16  // Whose alias SIMDe 0.7.4 gives four operands.
#undef _mm512_fmadd_ps
#undef _mm512_max_ps
#undef _mm512_min_ps
#undef _mm512_cvtps_epi32
#undef _mm512_cvtepi32_ps
#undef _mm512_cvtph_ps
#undef _mm512_cvtepu8_epi32
#undef _mm512_cvtepi8_epi32
#undef _mm512_cvtepi32_epi16
#undef _mm512_cvtepi32_epi8
#undef _mm512_extractf32x8_ps
#undef _mm512_cvtusepi32_epi8
#define _mm512_madd_epi16 simde_mm512_madd_epi16
#define _mm512_fmadd_ps lapidary::emulation::fmadd
#define _mm512_max_ps lapidary::emulation::maximum
#define _mm512_min_ps lapidary::emulation::minimum
#define _mm512_cvtps_epi32 lapidary::emulation::float_to_int
#define _mm512_cvtepi32_ps lapidary::emulation::int_to_float
#define _mm512_cvtph_ps lapidary::emulation::half_to_single
#define _mm512_cvtepu8_epi32 lapidary::emulation::widen_bytes<std::uint8_t>
#define _mm512_cvtepi8_epi32 lapidary::emulation::widen_bytes<std::int8_t>
#define _mm512_cvtepi32_epi16 lapidary::emulation::narrow_lanes<std::int16_t, __m256i>
#define _mm512_cvtepi32_epi8 lapidary::emulation::narrow_lanes<std::int8_t, __m128i>
#define _mm512_extractf32x8_ps lapidary::emulation::half_of
#define _mm512_cvtusepi32_epi8 lapidary::emulation::saturate_to_bytes

#define LAPIDARY_BYTE_PRODUCTS 4

namespace lapidary::kernels {
namespace {

inline void add_word_products(__m512i& sum, const __m512i& w, const __m512i& x) {
  sum = _mm512_dpwssd_epi32(sum, w, x);
}

#include "kernels/lanes-avx512-inl.h"

std::uint64_t int8_peak(std::uint64_t iterations) { return iterations; }  // Nobody measures it.

#include "kernels/generic-inl.h"

constexpr Kernels kEmulated = make_table("avx512 emulated");

}  // namespace
}  // namespace lapidary::kernels

const lapidary::kernels::Kernels* lapidary::emulated_avx512_table() { return &kernels::kEmulated; }

#else

const lapidary::kernels::Kernels* lapidary::emulated_avx512_table() { return nullptr; }

#endif
