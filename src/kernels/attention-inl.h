// Included after float-inl.h. Scores, softmax and weighted values of up to kRowTile query rows at a
// time against one segment of keys; each row's arithmetic is the same whichever rows share its
// tile.

inline constexpr int kRowTile = 4;

inline const std::uint16_t* cache_panel(const std::uint16_t* base, const AttentionArgs& a,
                                        std::int64_t panel) {
  const auto slot = static_cast<std::size_t>(panel % a.panel_ring);
  return base + slot * static_cast<std::size_t>(a.head_dim) * kKeyPanel;
}

struct RowRange {
  std::int64_t first, last;  // Inclusive, within the segment; empty when first > last.
};

inline RowRange row_range(const AttentionArgs& a, int row) {
  const std::int64_t first = a.row_first[row] > a.first_key ? a.row_first[row] : a.first_key;
  const std::int64_t last = a.row_last[row] < a.last_key ? a.row_last[row] : a.last_key;
  return {first, last};
}

template <int kRows>
inline void score_panels(const AttentionArgs& a, int row, std::int64_t begin, std::int64_t end) {
  const float* q[kRows];
  for (int r = 0; r < kRows; ++r)
    q[r] = a.queries + static_cast<std::size_t>(row + r) * static_cast<std::size_t>(a.head_dim);
  for (std::int64_t panel = begin; panel < end; ++panel) {
    const std::uint16_t* k = cache_panel(a.keys, a, panel);
    F sums[kRows];
    for (int r = 0; r < kRows; ++r) sums[r] = broadcast(0.0F);
    for (int d = 0; d < a.head_dim; d += 2, k += 2 * kKeyPanel) {
      const FPair pair = load_bf16_pairs(k);
      for (int r = 0; r < kRows; ++r) {
        sums[r] = fma(broadcast(q[r][d]), pair.even, sums[r]);
        sums[r] = fma(broadcast(q[r][d + 1]), pair.odd, sums[r]);
      }
    }
    const std::int64_t column = panel * kKeyPanel % kSegment;
    for (int r = 0; r < kRows; ++r) store(a.scores + (row + r) * kSegment + column, sums[r]);
  }
}

// Turns scores of one row into exponentials relative to the running maximum; returns what the
// running output must be multiplied by.
inline float exponentials(const AttentionArgs& a, int row, std::int64_t begin, std::int64_t end) {
  float* scores = a.scores + row * kSegment;
  const std::int64_t base = begin * kKeyPanel / kSegment * kSegment;
  const std::int64_t from = begin * kKeyPanel - base, to = end * kKeyPanel - base;
  const RowRange range = row_range(a, row);
  const std::int64_t seen_from = range.first - base, seen_to = range.last + 1 - base;
  if (range.first > range.last) {
    for (std::int64_t i = from; i < to; ++i) scores[i] = 0.0F;
    return 1.0F;
  }
  const float lowest = -std::numeric_limits<float>::infinity();
  for (std::int64_t i = from; i < seen_from; ++i) scores[i] = lowest;
  for (std::int64_t i = seen_to; i < to; ++i) scores[i] = lowest;
  F top = broadcast(a.maximum[row]);
  for (std::int64_t i = from; i < to; i += 16) top = max(top, load(scores + i));
  const float maximum = reduce_max(top);
  F sum = broadcast(0.0F);
  for (std::int64_t i = from; i < to; i += 16)
    store(scores + i, exp_lanes(sub(load(scores + i), broadcast(maximum))));
  for (std::int64_t i = from; i < seen_from; ++i) scores[i] = 0.0F;
  for (std::int64_t i = seen_to; i < to; ++i) scores[i] = 0.0F;
  for (std::int64_t i = from; i < to; i += 16) sum = add(sum, load(scores + i));
  float decay = 0.0F;
  if (a.maximum[row] != lowest) {
    alignas(64) float lanes[16];
    store(lanes, exp_lanes(broadcast(a.maximum[row] - maximum)));
    decay = lanes[0];
  }
  a.sum[row] = a.sum[row] * decay + reduce_add(sum);
  a.maximum[row] = maximum;
  return decay;
}

template <int kRows>
inline void weigh_values(const AttentionArgs& a, int row, std::int64_t begin, std::int64_t end,
                         const float* decay) {
  const auto stride = static_cast<std::size_t>(a.head_dim);
  for (int d = 0; d < a.head_dim; d += 16) {
    float* out = a.output + static_cast<std::size_t>(row) * stride + d;
    F sums[kRows];
    for (int r = 0; r < kRows; ++r)
      sums[r] = mul(load(out + static_cast<std::size_t>(r) * stride), broadcast(decay[r]));
    for (std::int64_t panel = begin; panel < end; ++panel) {
      const std::uint16_t* v = cache_panel(a.values, a, panel) + 2 * d;
      const float* p = a.scores + row * kSegment + panel * kKeyPanel % kSegment;
      for (int pair = 0; pair < kKeyPanel / 2; ++pair, v += 2 * stride, p += 2) {
        const FPair two = load_bf16_pairs(v);
        for (int r = 0; r < kRows; ++r) {
          sums[r] = fma(broadcast(p[r * kSegment]), two.even, sums[r]);
          sums[r] = fma(broadcast(p[r * kSegment + 1]), two.odd, sums[r]);
        }
      }
    }
    for (int r = 0; r < kRows; ++r) store(out + static_cast<std::size_t>(r) * stride, sums[r]);
  }
}

template <int kRows>
inline void attend_rows(const AttentionArgs& a, int row) {
  std::int64_t first = a.last_key + 1, last = a.first_key - 1;
  for (int r = 0; r < kRows; ++r) {
    const RowRange range = row_range(a, row + r);
    if (range.first > range.last) continue;
    first = range.first < first ? range.first : first;
    last = range.last > last ? range.last : last;
  }
  if (first > last) return;
  const std::int64_t begin = first / kKeyPanel, end = last / kKeyPanel + 1;
  score_panels<kRows>(a, row, begin, end);
  float decay[kRows];
  for (int r = 0; r < kRows; ++r) decay[r] = exponentials(a, row + r, begin, end);
  weigh_values<kRows>(a, row, begin, end, decay);
}

void attention(const AttentionArgs& a) {
  int row = 0;
  for (; row + kRowTile <= a.rows; row += kRowTile) attend_rows<kRowTile>(a, row);
  for (; row + 2 <= a.rows; row += 2) attend_rows<2>(a, row);
  if (row < a.rows) attend_rows<1>(a, row);
}

void attention_finish(const AttentionArgs& a) {
  for (int row = 0; row < a.rows; ++row) {
    float* out = a.output + static_cast<std::size_t>(row) * static_cast<std::size_t>(a.head_dim);
    const F inverse = broadcast(1.0F / a.sum[row]);
    for (int d = 0; d < a.head_dim; d += 16) store(out + d, mul(load(out + d), inverse));
  }
}
