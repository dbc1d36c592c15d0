#include "ops/screened_head.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/split.h"

namespace lapidary {
namespace {

using kernels::kBlock;
using kernels::kPanelRows;
using kernels::Packing;
using kernels::SplitLayout;

constexpr int kMostPanels = 2048;  // That one token may multiply in full.
constexpr int kFewestSeeds = 4;
constexpr int kFilterPanels = 64;  // Of one task.
// Reading the lower plane of a row costs about as much as reading both of it in order.
constexpr double kMostLowRows = 0.3;
// What a fifth bit of every row costs, in rows of the lower plane; where more were read after four
// bits, so many of the next searches begin with five.
constexpr double kManyLowRows = 0.05;
constexpr int kFiveBitSearches = 64;
// Of kQ6Split, where four bits of every row cost 0.86 of the full head and a row of the lower plane
// 0.9 of a row: with more rows than this a search takes longer than the full head, …
constexpr double kPaidTwoBitRows = 0.15;
// … but once begun it is ended unless there are more than these.
constexpr double kMostTwoBitRows = 0.5;
// After searches that did not pay, so many are not tried: 1, 3, 7, …
constexpr int kMostSkips = 63;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// What a bound is enlarged by, relative to itself: docs/numerics.md.
float slack_of(const HeadWeights& head) {
  const int columns = head.planes.columns;
  const int roundings = columns / kBlock + 16;
  float slack = static_cast<float>(roundings) * 0x1p-14F;
  if (!head.in_planes()) slack += static_cast<float>(columns) * 0x1p-15F + 1.0F / 44;
  return slack;
}

std::size_t padded_rows(int rows) {
  return static_cast<std::size_t>((rows + kPanelRows - 1) / kPanelRows) * kPanelRows;
}

std::size_t float_count(std::size_t padded) {
  constexpr std::size_t kTokens = HeadQuery::kMostTokens;
  return padded * kTokens * 2 + padded / kPanelRows * kTokens +
         std::size_t{kMostPanels} * kPanelRows;
}

/// Value `k` of block `block` of the input.
float value_at(const kernels::QuantizedInput& q, std::size_t block, std::size_t k) {
  const std::size_t at = block * kBlock + k;
  return q.scales[block] * kernels::kLowShare *
         static_cast<float>(kernels::kHighBase * q.high.values[at] + q.low.values[at]);
}

/// The length of a block, rounded up.
double block_length(const kernels::QuantizedInput& q, std::size_t block) {
  double squares = 0.0;
  for (std::size_t k = 0; k < kBlock; ++k) {
    const float value = value_at(q, block, k);
    squares += double{value} * value;
  }
  return std::sqrt(squares) * (1 + 1e-6);
}

/// The values of a block as screen_row takes them, sixteen of each.
void spread_block(const kernels::QuantizedInput& q, std::size_t block, float* low, float* high) {
  for (std::size_t j = 0; j < 16; ++j) {
    low[j] = value_at(q, block, j);
    high[j] = value_at(q, block, j + 16) - 16.0F * low[j];
  }
}

/// Eight blocks, of which `first` is the first, as screen_two_bit_row takes them.
void spread_two_bits(const kernels::QuantizedInput& q, std::size_t first,
                     kernels::TwoBitInput& out) {
  for (std::size_t half = 0; half < 16; ++half) {
    const std::size_t block = first + half / 2, at = block * kBlock + half % 2 * 16;
    float sum = 0.0F;
    for (std::size_t k = 0; k < 16; ++k) {
      const std::size_t to = 4 * half + k % 4;
      out.high[k / 4][to] = q.high.values[at + k];
      out.low[k / 4][to] = q.low.values[at + k];
      sum += static_cast<float>(q.high.values[at + k]) +
             kernels::kLowShare * static_cast<float>(q.low.values[at + k]);
    }
    out.centres[half] = 1.5F * sum;
    out.scales[half] = q.scales[block];
  }
}

}  // namespace

std::size_t ScreenedHead::memory_bytes(int rows, int columns) {
  const std::size_t padded = padded_rows(rows);
  const auto blocks = static_cast<std::size_t>(columns / kBlock);
  return float_count(padded) * sizeof(float) + kTokens * blocks * 208 + padded / kPanelRows +
         (std::size_t{kMostPanels} * kPanelRows +
          kTokens * (HeadQuery::kMostCount + HeadQuery::kMostAlso)) *
             sizeof(ScoredRow);
}

ScreenedHead::ScreenedHead(const HeadWeights& head, const kernels::Kernels& kernels)
    : head_(head),
      planes_(head.planes),
      kernels_(kernels),
      padded_(padded_rows(planes_.rows)),
      slack_(slack_of(head)),
      memory_(float_count(padded_) * sizeof(float), Pages::kSmall),
      estimates_(reinterpret_cast<float*>(memory_.data())),
      uppers_(estimates_ + padded_ * kTokens),
      peaks_(uppers_ + padded_ * kTokens),
      exact_(peaks_ + padded_ / kPanelRows * kTokens),
      inputs_(kTokens),
      lengths_(kTokens),
      panels_(kMostPanels),
      listed_(padded_ / kPanelRows),
      found_(kTokens) {
  const auto blocks = static_cast<std::size_t>(planes_.columns / kBlock);
  if (two_bits()) {
    two_bit_inputs_.resize(kTokens * blocks / 8);
  } else {
    lanes_.resize(kTokens * 3 * blocks * 16);
  }
  norms_.resize(kTokens * ((blocks + 3) / 4 * 4));
  block_lengths_.resize(kTokens * blocks);
  rows_.reserve(std::size_t{kMostPanels} * kPanelRows);
  for (auto& rows : found_) rows.reserve(HeadQuery::kMostCount + HeadQuery::kMostAlso);
}

std::span<const ScoredRow> ScreenedHead::found(int token) const {
  return found_[static_cast<std::size_t>(token)];
}

bool ScreenedHead::search(Worker& worker, const LinearInput& input, int tokens,
                          const HeadQuery& query, std::byte* scratch) {
  // Nobody writes what is decided by while a team searches.
  if (skips_ > 0) {
    worker.barrier([&] {
      --skips_;
      count_search(tokens, false);
    });
    return false;
  }
  // Four bits do for the best row, mostly, five for more.
  const bool four = two_bits() || (query.count == 1 && five_bits_ == 0);
  bool found = four && search_with(4, worker, input, tokens, query, scratch);
  const int low_rows = low_rows_.load(std::memory_order_relaxed);
  if (!found && !two_bits()) found = search_with(5, worker, input, tokens, query, scratch);
  worker.barrier([&] {
    if (four && low_rows > kManyLowRows * query.rows) five_bits_ = kFiveBitSearches;
    if (!four && five_bits_ > 0) --five_bits_;
    const bool paid = found && (!two_bits() || low_rows <= kPaidTwoBitRows * query.rows);
    skips_ = next_skips_ = paid ? 0 : std::min(2 * next_skips_ + 1, kMostSkips);
    count_search(tokens, found);
  });
  return found;
}

void ScreenedHead::count_search(int tokens, bool found) {
  stats_.searches += static_cast<std::uint64_t>(tokens);
  stats_.gave_up += found ? 0U : static_cast<std::uint64_t>(tokens);
}

bool ScreenedHead::search_with(int bits, Worker& worker, const LinearInput& input, int tokens,
                               const HeadQuery& query, std::byte* scratch) {
  worker.for_each(tokens, [&](int t) { prepare(bits, input, t); });
  scan(bits, worker, input, tokens, scratch);
  if (worker.index() == 0) {
    const auto rows = static_cast<std::uint64_t>(tokens) * static_cast<std::uint64_t>(query.rows);
    stats_.rows += rows;
    stats_.five_bit_rows += bits == 5 ? rows : 0;
  }
  for (int t = 0; t < tokens; ++t) {
    if (!select(worker, input, t, query, scratch)) return false;
  }
  return true;
}

/// What the bounds need of x: the lengths of its blocks, rounded up.
void ScreenedHead::prepare(int bits, const LinearInput& input, int token) {
  const kernels::QuantizedInput& q = input.quantized;
  const auto t = static_cast<std::size_t>(token);
  const std::size_t count = blocks();
  double* lengths = block_lengths_.data() + t * count;
  double longest = 0.0, squares = 0.0;
  for (std::size_t b = 0; b < count; ++b) {
    lengths[b] = block_length(q, t * count + b);
    longest = std::max(longest, lengths[b]);
    squares += lengths[b] * lengths[b];
  }
  const auto unit = static_cast<float>(longest / kernels::kNormLevels * (1 + 1e-6));
  std::int8_t* norms = norms_.data() + t * ((count + 3) / 4 * 4);
  for (std::size_t b = 0; b < count; ++b) {
    const double level = unit > 0 ? std::ceil(lengths[b] / unit) : 0.0;
    norms[b] = static_cast<std::int8_t>(std::min(level, double{kernels::kNormLevels}));
  }
  lengths_[t] = static_cast<float>(std::sqrt(squares) * (1 + 1e-6));
  kernels::ScreenInput& out = inputs_[t];
  out.blocks = static_cast<int>(count);
  out.norms = norms;
  out.norm_unit = unit * (1.0F + slack_);
  spread(bits, q, t, out);
}

/// What the lower plane needs of it.
void ScreenedHead::spread(int bits, const kernels::QuantizedInput& q, std::size_t token,
                          kernels::ScreenInput& out) {
  const std::size_t count = blocks(), first = token * count;
  if (two_bits()) {
    out.two_bits = two_bit_inputs_.data() + first / 8;
    for (std::size_t b = 0; b < count; b += 8)
      spread_two_bits(q, first + b, two_bit_inputs_[(first + b) / 8]);
    return;
  }
  float* low = lanes_.data() + first * 3 * 16;
  float* high = low + count * 16;
  float* centre = high + count * 16;
  for (std::size_t b = 0; b < count; ++b) {
    spread_block(q, first + b, low + 16 * b, high + 16 * b);
    const float sum =
        q.high.scaled_sums[first + b] + kernels::kLowShare * q.low.scaled_sums[first + b];
    centre[16 * b] = (bits == 4 ? -7.5F : -3.5F) * sum;
  }
  out.low = low;
  out.high = high;
  out.centre = centre;
  out.mask = bits == 4 ? 0xFF : 0x77;
}

/// Estimates and upper bounds of all rows, and the largest estimate of each panel.
void ScreenedHead::scan(int bits, Worker& worker, const LinearInput& input, int tokens,
                        std::byte* scratch) {
  const SplitLayout layout = planes_.layout();
  const int panels = planes_.panel_count();
  const int step = panels_per_task(planes_.panel_bytes(), tokens);
  const Packing packing = bits == 4 ? layout.top_packing() : Packing::kQ8Top5;
  worker.for_each((panels + step - 1) / step, [&](int task) {
    const int begin = task * step, end = std::min(begin + step, panels);
    planes_panels(kernels_, input, 0, tokens, planes_, packing, begin, end,
                  {estimates_ + begin * kPanelRows, padded_}, scratch);
    for (int p = begin; p < end; ++p) {
      const kernels::SplitPanels planes = planes_.planes(p);
      const std::byte* bounds =
          bits == 4 ? planes.top + layout.bounds() : planes.middle + layout.middle_bounds();
      for (int t = 0; t < tokens; ++t) {
        const std::size_t at = static_cast<std::size_t>(p) * kPanelRows;
        peaks_[static_cast<std::size_t>(t * panels + p)] = kernels_.screen_panel(
            bounds, inputs_[static_cast<std::size_t>(t)], estimates(t) + at, uppers(t) + at);
      }
    }
  });
}

bool ScreenedHead::select(Worker& worker, const LinearInput& input, int token,
                          const HeadQuery& query, std::byte* scratch) {
  worker.barrier([&] { pick_seeds(token, query); });
  const int seeds = panel_count_.load(std::memory_order_relaxed);
  compute(worker, input, token, 0, seeds, scratch, [&] { least_ = threshold(query); });
  const int panels = (query.rows + kPanelRows - 1) / kPanelRows;
  worker.for_each((panels + kFilterPanels - 1) / kFilterPanels, [&](int task) {
    filter(token, task * kFilterPanels, std::min(panels, (task + 1) * kFilterPanels), query.rows,
           least_);
  });
  const bool gave_up = gave_up_.load(std::memory_order_relaxed);
  const int end = gave_up ? seeds : panel_count_.load(std::memory_order_relaxed);
  compute(worker, input, token, seeds, end, scratch, [&] { collect(token, query); });
  return !gave_up;
}

void ScreenedHead::want(int panel) {
  std::uint8_t& listed = listed_[static_cast<std::size_t>(panel)];
  if (listed != 0) return;
  const int at = panel_count_.fetch_add(1, std::memory_order_relaxed);
  if (at >= kMostPanels) {
    gave_up_.store(true, std::memory_order_relaxed);
    return;
  }
  listed = 1;
  panels_[static_cast<std::size_t>(at)] = panel;
}

/// The panels with the largest estimates: their rows give the first threshold.
void ScreenedHead::pick_seeds(int token, const HeadQuery& query) {
  panel_count_.store(0, std::memory_order_relaxed);
  low_rows_.store(0, std::memory_order_relaxed);
  gave_up_.store(false, std::memory_order_relaxed);
  limit_ = static_cast<int>((two_bits() ? kMostTwoBitRows : kMostLowRows) * query.rows);
  const int panels = (query.rows + kPanelRows - 1) / kPanelRows;
  const float* peaks = peaks_ + static_cast<std::size_t>(token * planes_.panel_count());
  const auto seeds =
      static_cast<std::size_t>(std::min(std::max(query.count, kFewestSeeds), panels));
  rows_.clear();
  for (int p = 0; p < panels; ++p) {
    // A heap of the best so far, the worst of them in front.
    if (rows_.size() == seeds && !(peaks[p] > rows_.front().logit)) continue;
    if (rows_.size() == seeds) {
      std::pop_heap(rows_.begin(), rows_.end(), better);
      rows_.pop_back();
    }
    rows_.push_back({peaks[p], p});
    std::push_heap(rows_.begin(), rows_.end(), better);
  }
  for (const ScoredRow& seed : rows_) want(seed.row);
  for (const std::int32_t row : query.also) {
    if (row >= 0 && row < query.rows) want(row / kPanelRows);
  }
}

void ScreenedHead::compute(Worker& worker, const LinearInput& input, int token, int begin, int end,
                           std::byte* scratch, FunctionRef<void()> then) {
  const auto multiply = [&](int i) {
    const auto slot = static_cast<std::size_t>(begin + i);
    const int panel = panels_[slot];
    head_panels(kernels_, input, token, 1, head_, panel, panel + 1,
                {exact_ + slot * kPanelRows, kPanelRows}, scratch);
  };
  worker.for_each(end - begin, multiply, then);
}

/// Every row of the listed panels whose logit is at least `least`.
void ScreenedHead::gather(const HeadQuery& query, float least) {
  rows_.clear();
  const int count = panel_count_.load(std::memory_order_relaxed);
  for (int i = 0; i < count; ++i) {
    const int first = panels_[static_cast<std::size_t>(i)] * kPanelRows;
    const float* logits = exact_ + static_cast<std::size_t>(i) * kPanelRows;
    for (int r = 0; r < std::min(kPanelRows, query.rows - first); ++r) {
      if (logits[r] >= least) rows_.push_back({logits[r], first + r});
    }
  }
}

float ScreenedHead::threshold(const HeadQuery& query) {
  gather(query, -kInfinity);
  const auto count = static_cast<std::size_t>(query.count);
  if (rows_.size() < count) return -kInfinity;
  const auto last = rows_.begin() + static_cast<std::ptrdiff_t>(count - 1);
  std::nth_element(rows_.begin(), last, rows_.end(), better);
  const float best = std::min_element(rows_.begin(), last + 1, better)->logit;
  return std::max(last->logit, best - query.range);
}

/// Lists the panels of [begin, end) that hold a row whose logit may reach `least`. Comparisons are
/// such that a NaN passes.
void ScreenedHead::filter(int token, int begin, int end, int rows, float least) {
  if (gave_up_.load(std::memory_order_relaxed)) return;
  std::int32_t passed[kFilterPanels * kPanelRows];
  int count = 0;
  const SplitLayout layout = planes_.layout();
  for (int p = begin; p < end; ++p) {
    if (listed_[static_cast<std::size_t>(p)] != 0) continue;
    const float* upper = uppers(token) + static_cast<std::size_t>(p) * kPanelRows;
    for (int r = 0; r < kPanelRows; ++r) {
      if (upper[r] < least || p * kPanelRows + r >= rows) continue;
      const std::byte* row = planes_.planes(p).low + layout.low_row(r);
      for (std::size_t at = 0; at < layout.row_bytes(); at += 64) __builtin_prefetch(row + at);
      passed[count++] = p * kPanelRows + r;
    }
  }
  if (low_rows_.fetch_add(count, std::memory_order_relaxed) + count > limit_) {
    gave_up_.store(true, std::memory_order_relaxed);
    return;
  }
  refine(token, {passed, static_cast<std::size_t>(count)}, least);
}

void ScreenedHead::refine(int token, std::span<const std::int32_t> rows, float least) {
  const SplitLayout layout = planes_.layout();
  const auto screen_row = two_bits() ? kernels_.screen_two_bit_row : kernels_.screen_row;
  const auto t = static_cast<std::size_t>(token);
  for (const std::int32_t row : rows) {
    const auto at = static_cast<std::size_t>(row);
    const std::byte* panel = planes_.planes(row / kPanelRows).low;
    const int r = row % kPanelRows;
    const float estimate = estimates(token)[at];
    float error = (uppers(token)[at] - estimate) * slack_;
    if (copied()) {
      float rest;
      std::memcpy(&rest, panel + layout.rests() + sizeof rest * static_cast<std::size_t>(r),
                  sizeof rest);
      error += rest * lengths_[t] * (1.0F + slack_);
    }
    if (estimate + screen_row(panel, r, inputs_[t]) + error < least) continue;
    want(row / kPanelRows);
  }
}

/// The rows of `also` that are not there yet: their panels are among the listed ones.
void ScreenedHead::add_wanted(const HeadQuery& query, std::vector<ScoredRow>& found) {
  const auto listed = std::span(panels_).first(
      static_cast<std::size_t>(panel_count_.load(std::memory_order_relaxed)));
  for (const std::int32_t row : query.also) {
    const auto is_row = [row](const ScoredRow& r) { return r.row == row; };
    if (row < 0 || row >= query.rows || std::any_of(found.begin(), found.end(), is_row)) continue;
    const auto slot = std::find(listed.begin(), listed.end(), row / kPanelRows) - listed.begin();
    found.push_back({exact_[slot * kPanelRows + row % kPanelRows], row});
  }
}

void ScreenedHead::collect(int token, const HeadQuery& query) {
  const bool gave_up = gave_up_.load(std::memory_order_relaxed);
  const int listed = std::min(panel_count_.load(std::memory_order_relaxed), kMostPanels);
  stats_.low_rows += static_cast<std::uint64_t>(low_rows_.load(std::memory_order_relaxed));
  stats_.exact_rows += static_cast<std::uint64_t>(listed) * kPanelRows;
  std::vector<ScoredRow>& found = found_[static_cast<std::size_t>(token)];
  found.clear();
  if (!gave_up) {
    gather(query, least_);
    const auto kept = std::min(rows_.size(), static_cast<std::size_t>(query.count));
    const auto end = rows_.begin() + static_cast<std::ptrdiff_t>(kept);
    std::nth_element(rows_.begin(), end, rows_.end(), better);
    std::sort(rows_.begin(), end, better);
    found.assign(rows_.begin(), end);
    add_wanted(query, found);
  }
  for (int i = 0; i < listed; ++i)
    listed_[static_cast<std::size_t>(panels_[static_cast<std::size_t>(i)])] = 0;
}

}  // namespace lapidary
