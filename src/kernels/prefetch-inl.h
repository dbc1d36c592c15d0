// Reading ahead.
#pragma once

#include "kernels/vocabulary-inl.h"

// Weights stream past once a token: no processor's own reading ahead keeps the memory busy while
// their blocks are multiplied.
inline constexpr int kPrefetchAhead = 8192;
inline constexpr int kPastTheCaches = 0, kSecondLevel = 2;  // Where __builtin_prefetch puts it.

template <int kLocality>
LAPIDARY_INLINE void prefetch_lines(const std::uint8_t* p, int bytes) {
  for (int at = 0; at < bytes + 63; at += 64) __builtin_prefetch(p + at, 0, kLocality);
}

LAPIDARY_INLINE void prefetch_ahead(const std::uint8_t* p, int bytes) {
  if (kPrefetchesToSecondLevel) {
    prefetch_lines<kSecondLevel>(p + kPrefetchAhead, bytes);
  } else {
    prefetch_lines<kPastTheCaches>(p + kPrefetchAhead, bytes);
  }
}
