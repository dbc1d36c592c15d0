// Weights stream past once a token: some processors' own prefetch comes too late for some of them,
// and they need not stay in the caches.
inline constexpr int kPrefetchAhead = 8192;
LAPIDARY_INLINE void prefetch_ahead(const std::uint8_t* p, int bytes) {
  if (!kPrefetchesWeights) return;
  for (int at = 0; at < bytes + 63; at += 64) __builtin_prefetch(p + kPrefetchAhead + at, 0, 0);
}
