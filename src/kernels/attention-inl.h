// Scores, softmax and weighted values of up to kRowTile query rows at a time against one segment of
// keys; each row's arithmetic is the same whichever rows share its tile. The ISA gives
// kAttentionChains, the sums of sixteen lanes that it takes to keep the multipliers busy: rows
// times panels of keys, or times sixteen columns of values; and kRowTile, the most rows of a tile:
// keys and values are widened to fp32 once for each.
#pragma once

#include "kernels/kv-inl.h"
#include "kernels/prefetch-inl.h"

inline constexpr int kCacheLine = 64;   // Bytes.
inline constexpr int kValuePanels = 2;  // Whose values are added before the next columns' turn.
template <int kRows>  // More than eight streams of keys are too many for the caches.
inline constexpr int kAcross = kAttentionChains / kRows < 8 ? kAttentionChains / kRows : 8;

template <class Kv>
inline const std::byte* keys_of(const AttentionArgs& a, std::int64_t panel) {
  return a.cache.keys(panel, kv_panel_bytes(Kv::kFormat, a.head_dim));
}
template <class Kv>
inline const std::byte* values_of(const AttentionArgs& a, std::int64_t panel) {
  return a.cache.values(panel, kv_panel_bytes(Kv::kFormat, a.head_dim));
}

// Few rows read the cache past once, many again and again. `ahead`: how many bytes further on it
// will be read next; 0 at the end. Not where prefetches go past the second-level cache: so much is
// under way that the first level cannot hold it.
template <int kRows>
LAPIDARY_INLINE void prefetch_cache(const std::byte* p, std::size_t ahead) {
  if (kRows <= 4 && kPrefetchesToSecondLevel) __builtin_prefetch(p + ahead, 0, kSecondLevel);
}

// The same of a block of int8, for the first rows, on every processor: without it int8 was no
// faster than bf16 from memory (docs/decisions/0024).
LAPIDARY_INLINE void prefetch_block(const std::byte* p, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += kCacheLine)
    __builtin_prefetch(p + at, 0, kSecondLevel);
}

struct RowRange {
  std::int64_t first, last;  // Inclusive, within the segment; empty when first > last.
};

inline RowRange row_range(const AttentionArgs& a, int row) {
  const std::int64_t first = a.row_first[row] > a.first_key ? a.row_first[row] : a.first_key;
  const std::int64_t last = a.row_last[row] < a.last_key ? a.row_last[row] : a.last_key;
  return {first, last};
}

template <class Kv, int kRows, int kPanels>
inline void score_panels(const AttentionArgs& a, int row, std::int64_t panel, std::int64_t end) {
  const float* q[kRows];
  for (int r = 0; r < kRows; ++r)
    q[r] = a.queries + static_cast<std::size_t>(row + r) * static_cast<std::size_t>(a.head_dim);
  const std::size_t tile = kPanels * kv_panel_bytes(Kv::kFormat, a.head_dim).keys;
  const std::size_t ahead = panel + 2 * kPanels <= end ? tile : 0;
  const std::byte* keys[kPanels];
  for (int p = 0; p < kPanels; ++p) keys[p] = keys_of<Kv>(a, panel + p);
  const std::byte* next[kPanels];
  for (int p = 0; p < kPanels; ++p)
    next[p] = ahead > 0 ? keys_of<Kv>(a, panel + kPanels + p) : keys[p];
  float* scores = a.scores + row * kSegment + panel * kKeyPanel % kSegment;
  const int block = Kv::key_block(a.head_dim);
  for (int begin = 0; begin < a.head_dim; begin += block) {
    const std::byte* k[kPanels];
    for (int p = 0; p < kPanels; ++p) {
      k[p] = Kv::keys_from(keys[p], begin);
      if (Kv::kScaled && row == 0) prefetch_block(Kv::keys_from(next[p], begin), kKeyBlockBytes);
    }
    Floats sums[kRows][kPanels];
    for (int r = 0; r < kRows; ++r) {
      for (int p = 0; p < kPanels; ++p) sums[r][p] = broadcast(0.0F);
    }
    for (int d = 0; d < block; d += 2) {
      FloatPair pairs[kPanels];
      for (int p = 0; p < kPanels; ++p) {
        if (!Kv::kScaled) prefetch_cache<kRows>(k[p] + d * kCacheLine / 2, ahead);
        pairs[p] = Kv::keys(k[p], d);
      }
      for (int r = 0; r < kRows; ++r) {
        const Floats even = broadcast(q[r][begin + d]), odd = broadcast(q[r][begin + d + 1]);
        for (int p = 0; p < kPanels; ++p) {
          sums[r][p] = fma(even, pairs[p].even, sums[r][p]);
          sums[r][p] = fma(odd, pairs[p].odd, sums[r][p]);
        }
      }
    }
    for (int p = 0; p < kPanels; ++p) {
      for (int r = 0; r < kRows; ++r) {
        float* out = scores + r * kSegment + p * kKeyPanel;
        if constexpr (Kv::kScaled) {
          const Floats so_far = begin == 0 ? broadcast(0.0F) : load(out);
          store(out, fma(sums[r][p], Kv::key_scales(k[p]), so_far));
        } else {
          store(out, sums[r][p]);
        }
      }
    }
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
template <class Kv, int kRows, int kColumns>
inline void weigh_columns(const AttentionArgs& a, int row, std::int64_t begin, std::int64_t end,
                          std::int64_t all, int d, bool first) {
  const auto stride = static_cast<std::size_t>(a.head_dim);
  float* out = a.part.output + static_cast<std::size_t>(row) * stride + d;
  const std::size_t step = kValuePanels * kv_panel_bytes(Kv::kFormat, a.head_dim).values;
  const std::size_t ahead = end < all ? step : 0;
  Floats sums[kRows][kColumns];
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c)
      sums[r][c] =
          first ? broadcast(0.0F) : load(out + static_cast<std::size_t>(r) * stride + 16 * c);
  }
  for (std::int64_t panel = begin; panel < end; ++panel) {
    const std::byte* values = values_of<Kv>(a, panel);
    const std::byte* v = Kv::values_from(values, d);
    const float* p = a.scores + row * kSegment + panel * kKeyPanel % kSegment;
    // Sixteen keys' exponentials times their scales, of two times sixteen columns.
    alignas(64) float scaled[Kv::kScaled ? kRows : 1][(kColumns + 1) / 2][kKeyPanel];
    if constexpr (Kv::kScaled) {
      const bool more = panel + kValuePanels < all;
      const std::byte* next = more ? values_of<Kv>(a, panel + kValuePanels) : values;
      for (int c = 0; c < kColumns; c += 2) {
        if (row == 0) prefetch_block(Kv::values_from(next, d + 16 * c), kValueBlockBytes);
        const Floats scales = Kv::value_scales(values, d + 16 * c);
        for (int r = 0; r < kRows; ++r)
          store(scaled[r][c / 2], mul(load(p + r * kSegment), scales));
      }
    }
    for (int key = 0; key < kKeyPanel; key += 2) {
      FloatPair two[kColumns];
      for (int c = 0; c < kColumns; ++c) {
        const std::byte* at = Kv::values_at(v, a.head_dim, key, 16 * c);
        if (!Kv::kScaled) prefetch_cache<kRows>(at, ahead);
        two[c] = Kv::values(at);
      }
      for (int r = 0; r < kRows; ++r) {
        for (int c = 0; c < kColumns; ++c) {
          const float* weights = Kv::kScaled ? scaled[r][c / 2] : p + r * kSegment;
          sums[r][c] = fma(broadcast(weights[key]), two[c].even, sums[r][c]);
          sums[r][c] = fma(broadcast(weights[key + 1]), two[c].odd, sums[r][c]);
        }
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c)
      store(out + static_cast<std::size_t>(r) * stride + 16 * c, sums[r][c]);
  }
}

template <class Kv, int kRows>
inline void weigh_values(const AttentionArgs& a, int row, std::int64_t begin, std::int64_t end) {
  constexpr int kColumns = kAcross<kRows>;
  for (std::int64_t panel = begin; panel < end; panel += kValuePanels) {
    const std::int64_t stop = panel + kValuePanels < end ? panel + kValuePanels : end;
    int d = 0;
    for (; d + 16 * kColumns <= a.head_dim; d += 16 * kColumns)
      weigh_columns<Kv, kRows, kColumns>(a, row, panel, stop, end, d, panel == begin);
    for (; d < a.head_dim; d += 16)
      weigh_columns<Kv, kRows, 1>(a, row, panel, stop, end, d, panel == begin);
  }
}

template <class Kv, int kRows>
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
  for (; panel + kPanels <= end; panel += kPanels)
    score_panels<Kv, kRows, kPanels>(a, row, panel, end);
  for (; panel < end; ++panel) score_panels<Kv, kRows, 1>(a, row, panel, end);
  for (int r = 0; r < kRows; ++r) exponentials(a, row + r, begin, end);
  weigh_values<Kv, kRows>(a, row, begin, end);
}

// Rows from `row` on in tiles of kRows, and what is left in smaller ones.
template <class Kv, int kRows>
inline void attend_from(const AttentionArgs& a, int row) {
  for (; row + kRows <= a.rows; row += kRows) attend_rows<Kv, kRows>(a, row);
  if constexpr (kRows > 1) attend_from<Kv, kRows / 2>(a, row);
}

void attention(const AttentionArgs& a) {
  const auto attend =
      a.format == KvFormat::kInt8 ? attend_from<Int8Kv, kRowTile> : attend_from<Bf16Kv, kRowTile>;
  attend(a, 0);
}

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
