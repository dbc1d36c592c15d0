#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace lapidary {

/// Where a text may be cut so that its parts have the ids of the whole, encoded one by one.
///
/// Every merge of BPE, and every user-defined piece that is matched, leaves a piece of the
/// vocabulary. So nothing ever reaches across two characters that stand side by side in no piece:
/// what happens on one side does not depend on the other, and merges of the same side keep their
/// order. A space counts as the U+2581 that SentencePiece makes of it. A vocabulary for which that
/// is not sure has no cuts.
class Cuts {
 public:
  /// Of tokens with these texts and types. `newlines`: Vocabulary::newlines_cut.
  Cuts(std::span<const std::string_view> texts, std::span<const TokenType> types, bool newlines);

  /// The first place at or behind `from` where `text`, valid UTF-8, may be cut, or its end.
  std::size_t find(std::string_view text, std::size_t from) const;

 private:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;  // No character: before the first one.

  bool add(std::string_view piece);
  std::size_t slot(std::uint32_t before, std::uint32_t after) const;
  bool may_cut(std::uint32_t before, std::uint32_t after) const;

  bool newlines_;
  int bits_;  // Of a slot's number.
  // Pairs of neighbours by a hash: one that is not there may be taken for one, which forbids a cut
  // that was allowed and nothing else.
  std::vector<std::uint64_t> neighbours_;
};

}  // namespace lapidary
