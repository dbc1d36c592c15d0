#pragma once

#include <cstddef>
#include <list>
#include <span>
#include <vector>

#include "lapidary/tokenizer.h"
#include "model/page_table.h"
#include "runtime/digest.h"

namespace lapidary {

/// So many positions, computed or in common, are worth to be kept for others.
inline constexpr std::size_t kWorthKeeping = 64;

/// A picture among the ids of a sequence.
struct PlacedPicture {
  int begin;
  int count;
  Digest features;  // Of what its tokens stand for.
  bool operator==(const PlacedPicture&) const = default;
};

/// What keys and values depend on: ids, and what the image tokens among them stand for.
struct PrefixView {
  std::span<const TokenId> ids;
  std::span<const PlacedPicture> pictures;  // In order, each as a whole.

  /// The first `count` ids, which end in no picture.
  PrefixView first(std::size_t count) const;
};

/// How many positions at the beginning of `a` and `b` are the same, at most `most`; no picture is
/// cut.
std::size_t common_prefix(const PrefixView& a, const PrefixView& b, std::size_t most);

/// Beginnings of sequences that were computed, with their pages, the longest unused dropped first.
/// One thread at a time.
class PrefixCache {
 public:
  /// Keeps the pages of `table`, which has computed all of `prefix`, if it still reaches back so
  /// far; what that makes useless goes.
  void keep(const PrefixView& prefix, const PageTable& table);

  /// A kept table, and how much of it is the beginning of what was asked for.
  struct Match {
    const PageTable* table = nullptr;
    std::size_t count = 0;   // Positions that can be taken; 0: none.
    std::size_t common = 0;  // Positions in common with anything, whether they can be taken or not.

    /// Whether `other`, with `positions` in common, is better than what there was; takes it then.
    bool offer(const PageTable& other, std::size_t positions);
  };
  /// The longest for `wanted`, of which at most `most` positions may be taken. It counts as used.
  Match find(const PrefixView& wanted, std::size_t most);

  /// False: there is nothing left.
  bool drop_oldest();
  void clear() { entries_.clear(); }
  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::vector<TokenId> ids;
    std::vector<PlacedPicture> pictures;
    PageTable table;

    PrefixView view() const { return {ids, pictures}; }
  };
  static constexpr std::size_t kMostEntries = 256;

  std::list<Entry> entries_;  // Last used first.
};

/// What of the first `common` positions of `table` can be taken: all or nothing.
std::size_t usable(const PageTable& table, std::size_t common);

}  // namespace lapidary
