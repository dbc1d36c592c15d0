#include "runtime/row_logits.h"

#include <algorithm>
#include <atomic>

namespace lapidary {

namespace {

int place_of(std::span<const std::uint64_t> numbers, std::uint64_t number) {
  const auto found = std::ranges::find(numbers, number);
  return found == numbers.end() ? -1 : static_cast<int>(found - numbers.begin());
}

}  // namespace

std::uint64_t number_rows(int count) {
  static std::atomic<std::uint64_t> next{1};
  return next.fetch_add(static_cast<std::uint64_t>(count), std::memory_order_relaxed);
}

RowLogits::RowLogits(Decoder& decoder, int vocabulary, int most_rows)
    : decoder_(decoder),
      vocabulary_(static_cast<std::size_t>(vocabulary)),
      most_rows_(most_rows),
      logits_(vocabulary_ * static_cast<std::size_t>(most_rows) * sizeof(float), Pages::kHuge) {
  const auto most = static_cast<std::size_t>(std::max(most_rows, HeadQuery::kMostTokens));
  numbers_.reserve(most);
  searched_.reserve(most);
  values_.reserve(most);
}

std::span<float> RowLogits::row(int i) const {
  auto* first = reinterpret_cast<float*>(logits_.data());
  return {first + static_cast<std::size_t>(i) * vocabulary_, vocabulary_};
}

int RowLogits::index(std::uint64_t number) const { return place_of(numbers_, number); }

void RowLogits::compute(std::span<const HiddenRow> rows) {
  if (std::ranges::all_of(rows, [&](const HiddenRow& r) { return has(r.number); })) return;
  numbers_.clear();
  values_.clear();
  for (const HiddenRow& r : rows) values_.push_back(r.values);
  decoder_.logits(values_, {row(0).data(), vocabulary_});
  for (const HiddenRow& r : rows) numbers_.push_back(r.number);
}

void RowLogits::take(std::uint64_t number, std::span<const float> logits) {
  std::ranges::copy(logits, row(0).begin());
  numbers_.assign(1, number);
}

std::span<const float> RowLogits::all(std::uint64_t number) const { return row(index(number)); }

bool RowLogits::find_best(std::span<const HiddenRow> rows, const HeadQuery& query) {
  const bool same = query.rows == query_.rows && query.count == query_.count &&
                    query.range == query_.range && query.also.empty();
  if (same && place_of(searched_, rows.front().number) >= 0) return true;
  searched_.clear();
  values_.clear();
  // What is wanted besides differs from row to row.
  if (!query.also.empty()) rows = rows.first(1);
  for (const HiddenRow& r : rows) values_.push_back(r.values);
  if (!decoder_.best_logits(values_, query)) return false;
  for (const HiddenRow& r : rows) searched_.push_back(r.number);
  query_ = query;
  // An answer to more than was asked for is none to the next query.
  if (!query.also.empty()) query_.rows = 0;
  query_.also = {};
  return true;
}

std::span<const ScoredRow> RowLogits::best(std::uint64_t number) const {
  return decoder_.best(place_of(searched_, number));
}

}  // namespace lapidary
