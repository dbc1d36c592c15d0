#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lapidary/tokenizer.h"

namespace lapidary {

/// Where in a sequence its last ids stood before. The positions of every pair of ids are chained by
/// a hash of the pair, newest first. Takes all memory when it is made; O(1) an id.
class NgramIndex {
 public:
  static constexpr int kShortest = 2;  ///< Ids that a match has at least;
  static constexpr int kLongest = 16;  ///< beyond this many, matches are not told apart.

  static std::uint64_t memory_bytes(int context);

  /// For sequences of up to `context` ids.
  explicit NgramIndex(int context);

  /// Takes in the ids of the sequence that it has not seen; those seen are a prefix of `ids`.
  void extend(std::span<const TokenId> ids);

  struct Match {
    int next = 0;    ///< Position of the id that followed the earlier occurrence.
    int length = 0;  ///< Ids that agree; 0: no match.
  };

  /// The longest suffix of `ids` that also stands earlier, the newest one of equals, among the last
  /// kProbes places where its final pair stood. `ids` are those of the last extend().
  Match longest(std::span<const TokenId> ids) const;

  void clear();

 private:
  static constexpr int kProbes = 32;

  std::size_t slot(TokenId first, TokenId second) const;

  int bits_;                  // Of a slot's number.
  std::vector<int> newest_;   // By slot: the position of the pair's second id; 0: none.
  std::vector<int> earlier_;  // By position: the one before it in the same slot; 0: none.
  int seen_ = 0;
};

/// Copies to `out` the ids from `next` on; behind the end of `ids` come those copied, so that a
/// period goes on.
void copy_continuation(std::span<const TokenId> ids, int next, std::span<TokenId> out);

}  // namespace lapidary
