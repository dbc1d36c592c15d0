// Scores, softmax and weighted values of up to kRowTile query rows at a time against one segment of
// keys; each row's arithmetic is the same whichever rows share its tile. The ISA gives
// kAttentionChains, the sums of sixteen lanes that it takes to keep the multipliers busy: rows
// times panels of keys, or times sixteen columns of values; and kRowTile, the most rows of a tile:
// keys and values are widened to fp32 once for each.
#pragma once

#include "kernels/float-inl.h"
#include "kernels/prefetch-inl.h"

inline constexpr int kValuePanels = 2;  // Whose values are added before the next columns' turn.
template <int kRows>  // More than eight streams of keys are too many for the caches.
inline constexpr int kAcross = kAttentionChains / kRows < 8 ? kAttentionChains / kRows : 8;

inline const std::uint16_t* keys_of(const AttentionArgs& a, std::int64_t panel) {
  return reinterpret_cast<const std::uint16_t*>(
      a.cache.keys(panel, kv_panel_bytes(KvFormat::kBf16, a.head_dim)));
}
inline const std::uint16_t* values_of(const AttentionArgs& a, std::int64_t panel) {
  return reinterpret_cast<const std::uint16_t*>(
      a.cache.values(panel, kv_panel_bytes(KvFormat::kBf16, a.head_dim)));
}

void store_kv(KvFormat, const float* key, const float* value, int head_dim, std::byte* head,
              int place) {
  const auto dim = static_cast<std::size_t>(head_dim);
  const auto panel = static_cast<std::size_t>(place / kKeyPanel);
  const auto lane = static_cast<std::size_t>(place % kKeyPanel);
  auto* keys = reinterpret_cast<std::uint16_t*>(head) + panel * kKeyPanel * dim + 2 * lane;
  auto* values = reinterpret_cast<std::uint16_t*>(head) + (kPagePanels + panel) * kKeyPanel * dim +
                 lane / 2 * 2 * dim + lane % 2;
  for (std::size_t d = 0; d < dim; d += 2) {
    keys[d * kKeyPanel] = float_to_bf16(key[d]);
    keys[d * kKeyPanel + 1] = float_to_bf16(key[d + 1]);
  }
  for (std::size_t d = 0; d < dim; ++d) values[2 * d] = float_to_bf16(value[d]);
}

// Few rows read the cache past once, many again and again. `ahead`: how many values further on it
// will be read next; 0 at the end. Not where prefetches go past the second-level cache: so much is
// under way that the first level cannot hold it.
template <int kRows>
LAPIDARY_INLINE void prefetch_cache(const std::uint16_t* p, std::size_t ahead) {
  if (kRows <= 4 && kPrefetchesToSecondLevel) __builtin_prefetch(p + ahead, 0, kSecondLevel);
}

struct RowRange {
  std::int64_t first, last;  // Inclusive, within the segment; empty when first > last.
};

inline RowRange row_range(const AttentionArgs& a, int row) {
  const std::int64_t first = a.row_first[row] > a.first_key ? a.row_first[row] : a.first_key;
  const std::int64_t last = a.row_last[row] < a.last_key ? a.row_last[row] : a.last_key;
  return {first, last};
}

template <int kRows, int kPanels>
inline void score_panels(const AttentionArgs& a, int row, std::int64_t panel, std::int64_t end) {
  const float* q[kRows];
  for (int r = 0; r < kRows; ++r)
    q[r] = a.queries + static_cast<std::size_t>(row + r) * static_cast<std::size_t>(a.head_dim);
  const auto tile = static_cast<std::size_t>(a.head_dim) * kKeyPanel * kPanels;
  const std::size_t ahead = panel + 2 * kPanels <= end ? tile : 0;
  const std::uint16_t* k[kPanels];
  for (int p = 0; p < kPanels; ++p) k[p] = keys_of(a, panel + p);
  Floats sums[kRows][kPanels];
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPanels; ++p) sums[r][p] = broadcast(0.0F);
  }
  for (int d = 0; d < a.head_dim; d += 2) {
    FloatPair pairs[kPanels];
    for (int p = 0; p < kPanels; ++p) {
      prefetch_cache<kRows>(k[p] + d * kKeyPanel, ahead);
      pairs[p] = load_bf16_pairs(k[p] + d * kKeyPanel);
    }
    for (int r = 0; r < kRows; ++r) {
      const Floats even = broadcast(q[r][d]), odd = broadcast(q[r][d + 1]);
      for (int p = 0; p < kPanels; ++p) {
        sums[r][p] = fma(even, pairs[p].even, sums[r][p]);
        sums[r][p] = fma(odd, pairs[p].odd, sums[r][p]);
      }
    }
  }
  const std::int64_t column = panel * kKeyPanel % kSegment;
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPanels; ++p)
      store(a.scores + (row + r) * kSegment + column + p * kKeyPanel, sums[r][p]);
  }
}

// Turns scores of one row into exponentials relative to the largest of them.
inline void exponentials(const AttentionArgs& a, int row, std::int64_t begin, std::int64_t end) {
  float* scores = a.scores + row * kSegment;
  const std::int64_t base = begin * kKeyPanel / kSegment * kSegment;
  const std::int64_t from = begin * kKeyPanel - base, to = end * kKeyPanel - base;
  const RowRange range = row_range(a, row);
  const std::int64_t seen_from = range.first - base, seen_to = range.last + 1 - base;
  const float lowest = -std::numeric_limits<float>::infinity();
  if (range.first > range.last) {
    for (std::int64_t i = from; i < to; ++i) scores[i] = 0.0F;
    a.part.maximum[row] = lowest;
    a.part.sum[row] = 0.0F;
    return;
  }
  for (std::int64_t i = from; i < seen_from; ++i) scores[i] = lowest;
  for (std::int64_t i = seen_to; i < to; ++i) scores[i] = lowest;
  Floats top = broadcast(lowest);
  for (std::int64_t i = from; i < to; i += 16) top = max(top, load(scores + i));
  const float maximum = reduce_max(top);
  Floats sum = broadcast(0.0F);
  for (std::int64_t i = from; i < to; i += 16)
    store(scores + i, exp_lanes(sub(load(scores + i), broadcast(maximum))));
  for (std::int64_t i = from; i < seen_from; ++i) scores[i] = 0.0F;
  for (std::int64_t i = seen_to; i < to; ++i) scores[i] = 0.0F;
  for (std::int64_t i = from; i < to; i += 16) sum = add(sum, load(scores + i));
  a.part.maximum[row] = maximum;
  a.part.sum[row] = reduce_add(sum);
}

// Adds panels [begin, end), at most kValuePanels, to 16 · kColumns columns from column d on.
template <int kRows, int kColumns>
inline void weigh_columns(const AttentionArgs& a, int row, std::int64_t begin, std::int64_t end,
                          int d, bool first, std::size_t ahead) {
  const auto stride = static_cast<std::size_t>(a.head_dim);
  float* out = a.part.output + static_cast<std::size_t>(row) * stride + d;
  Floats sums[kRows][kColumns];
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c)
      sums[r][c] =
          first ? broadcast(0.0F) : load(out + static_cast<std::size_t>(r) * stride + 16 * c);
  }
  for (std::int64_t panel = begin; panel < end; ++panel) {
    const std::uint16_t* v = values_of(a, panel) + 2 * d;
    const float* p = a.scores + row * kSegment + panel * kKeyPanel % kSegment;
    for (int pair = 0; pair < kKeyPanel / 2; ++pair, v += 2 * stride, p += 2) {
      FloatPair two[kColumns];
      for (int c = 0; c < kColumns; ++c) {
        prefetch_cache<kRows>(v + 32 * c, ahead);
        two[c] = load_bf16_pairs(v + 32 * c);
      }
      for (int r = 0; r < kRows; ++r) {
        const Floats even = broadcast(p[r * kSegment]), odd = broadcast(p[r * kSegment + 1]);
        for (int c = 0; c < kColumns; ++c) {
          sums[r][c] = fma(even, two[c].even, sums[r][c]);
          sums[r][c] = fma(odd, two[c].odd, sums[r][c]);
        }
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c)
      store(out + static_cast<std::size_t>(r) * stride + 16 * c, sums[r][c]);
  }
}

template <int kRows>
inline void weigh_values(const AttentionArgs& a, int row, std::int64_t begin, std::int64_t end) {
  constexpr int kColumns = kAcross<kRows>;
  const auto step = static_cast<std::size_t>(a.head_dim) * kKeyPanel * kValuePanels;
  for (std::int64_t panel = begin; panel < end; panel += kValuePanels) {
    const std::int64_t stop = panel + kValuePanels < end ? panel + kValuePanels : end;
    const std::size_t ahead = stop < end ? step : 0;
    int d = 0;
    for (; d + 16 * kColumns <= a.head_dim; d += 16 * kColumns)
      weigh_columns<kRows, kColumns>(a, row, panel, stop, d, panel == begin, ahead);
    for (; d < a.head_dim; d += 16)
      weigh_columns<kRows, 1>(a, row, panel, stop, d, panel == begin, ahead);
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
  std::int64_t begin = first / kKeyPanel, end = last / kKeyPanel + 1;
  if (first > last) {
    begin = end = a.first_key / kKeyPanel;
    const auto stride = static_cast<std::size_t>(a.head_dim);
    std::memset(a.part.output + static_cast<std::size_t>(row) * stride, 0,
                kRows * stride * sizeof(float));
  }
  constexpr int kPanels = kAcross<kRows>;
  std::int64_t panel = begin;
  for (; panel + kPanels <= end; panel += kPanels) score_panels<kRows, kPanels>(a, row, panel, end);
  for (; panel < end; ++panel) score_panels<kRows, 1>(a, row, panel, end);
  for (int r = 0; r < kRows; ++r) exponentials(a, row + r, begin, end);
  weigh_values<kRows>(a, row, begin, end);
}

// Rows from `row` on in tiles of kRows, and what is left in smaller ones.
template <int kRows>
inline void attend_from(const AttentionArgs& a, int row) {
  for (; row + kRows <= a.rows; row += kRows) attend_rows<kRows>(a, row);
  if constexpr (kRows > 1) attend_from<kRows / 2>(a, row);
}

void attention(const AttentionArgs& a) { attend_from<kRowTile>(a, 0); }

void attention_merge(const AttentionPart& next, int rows, int head_dim,
                     const AttentionPart& so_far) {
  const float lowest = -std::numeric_limits<float>::infinity();
  for (int row = 0; row < rows; ++row) {
    float& maximum = so_far.maximum[row];
    if (next.maximum[row] == lowest) continue;
    const float top = next.maximum[row] > maximum ? next.maximum[row] : maximum;
    const float decay = maximum == lowest ? 0.0F : first_lane(exp_lanes(broadcast(maximum - top)));
    const float weight = first_lane(exp_lanes(broadcast(next.maximum[row] - top)));
    const auto at = static_cast<std::size_t>(row) * static_cast<std::size_t>(head_dim);
    for (int d = 0; d < head_dim; d += 16) {
      float* out = so_far.output + at + d;
      const Floats old = mul(load(out), broadcast(decay));
      store(out, fma(load(next.output + at + d), broadcast(weight), old));
    }
    so_far.sum[row] = std::fma(next.sum[row], weight, so_far.sum[row] * decay);
    maximum = top;
  }
}

void attention_finish(const AttentionPart& part, int rows, int head_dim) {
  for (int row = 0; row < rows; ++row) {
    float* out = part.output + static_cast<std::size_t>(row) * static_cast<std::size_t>(head_dim);
    const Floats inverse = broadcast(1.0F / part.sum[row]);
    for (int d = 0; d < head_dim; d += 16) store(out + d, mul(load(out + d), inverse));
  }
}
