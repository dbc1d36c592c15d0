#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/digest.h"
#include "runtime/prefix_cache.h"

namespace lapidary {

/// Global layers' pages lie in files of so many positions, which texts that begin alike share.
inline constexpr int kSegmentPositions = 1024;

/// Hashes of the beginnings of one text: of its ids and pictures, and of what else its keys and
/// values depend on. A picture counts as a whole where it begins.
class PrefixHash {
 public:
  /// `kind` stands for what else they depend on. The ids of `prefix` must outlive it.
  PrefixHash(const Digest& kind, const PrefixView& prefix);

  /// Of the first `count` ids, at least as many as last time.
  Digest at(std::size_t count);

 private:
  PrefixView prefix_;
  Hasher hasher_;
  std::size_t done_ = 0;
  std::size_t pictures_ = 0;  // Of those that begin in front of done_.
};

/// What a file of a prefix cache holds, as its name says.
struct PrefixName {
  enum class What {
    kSegment,  // The pages of global layers for kSegmentPositions positions.
    kPlace,    // Those of what is left behind the last segment, and the windows of local layers.
  };
  What what;
  int end;           // Positions of the text.
  std::string hash;  // Of the text up to there, 32 digits.
  std::string base;  // Of the text in front of what the file holds, 16 digits.

  /// Position of the first id that the file holds.
  int begin() const {
    return what == What::kSegment ? end - kSegmentPositions
                                  : end / kSegmentPositions * kSegmentPositions;
  }

  std::string text() const;

  /// What `text` names; nothing for any other name.
  static std::optional<PrefixName> parse(std::string_view text);
};

/// As PrefixName has them.
std::string hash_digits(const Digest& digest);
std::string base_digits(const Digest& digest);

}  // namespace lapidary
