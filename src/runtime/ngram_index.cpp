#include "runtime/ngram_index.h"

#include <algorithm>
#include <bit>

namespace lapidary {
namespace {

int slot_bits(int context) {
  return std::max(4, static_cast<int>(std::bit_width(static_cast<unsigned>(context))));
}

}  // namespace

std::uint64_t NgramIndex::memory_bytes(int context) {
  return ((std::uint64_t{1} << slot_bits(context)) + static_cast<std::uint64_t>(context)) *
         sizeof(int);
}

NgramIndex::NgramIndex(int context)
    : bits_(slot_bits(context)),
      newest_(std::size_t{1} << bits_, 0),
      earlier_(static_cast<std::size_t>(context), 0) {}

std::size_t NgramIndex::slot(TokenId first, TokenId second) const {
  const std::uint64_t pair = static_cast<std::uint64_t>(static_cast<std::uint32_t>(first)) << 32 |
                             static_cast<std::uint32_t>(second);
  // Multiplication by 2^64 divided by the golden ratio spreads neighbouring ids (Knuth).
  return static_cast<std::size_t>((pair * 0x9E3779B97F4A7C15U) >> (64 - bits_));
}

void NgramIndex::extend(std::span<const TokenId> ids) {
  for (seen_ = std::max(seen_, 1); static_cast<std::size_t>(seen_) < ids.size(); ++seen_) {
    const auto at = static_cast<std::size_t>(seen_);
    int& newest = newest_[slot(ids[at - 1], ids[at])];
    earlier_[at] = newest;
    newest = seen_;
  }
}

NgramIndex::Match NgramIndex::longest(std::span<const TokenId> ids) const {
  Match best;
  if (ids.size() < static_cast<std::size_t>(kShortest)) return best;
  const int last = static_cast<int>(ids.size()) - 1;
  int end = earlier_[static_cast<std::size_t>(last)];
  for (int probe = 0; probe < kProbes && end > 0 && best.length < kLongest; ++probe) {
    int length = 0;
    while (length < kLongest && length <= end &&
           ids[static_cast<std::size_t>(end - length)] ==
               ids[static_cast<std::size_t>(last - length)]) {
      ++length;
    }
    if (length >= kShortest && length > best.length) best = {end + 1, length};
    end = earlier_[static_cast<std::size_t>(end)];
  }
  return best;
}

void NgramIndex::clear() {
  std::fill(newest_.begin(), newest_.end(), 0);
  seen_ = 0;
}

void copy_continuation(std::span<const TokenId> ids, int next, std::span<TokenId> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::size_t from = static_cast<std::size_t>(next) + i;
    out[i] = from < ids.size() ? ids[from] : out[from - ids.size()];
  }
}

}  // namespace lapidary
