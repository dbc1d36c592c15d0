#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/team.h"
#include "lapidary/stats.h"
#include "model/page_table.h"
#include "runtime/kv_identity.h"
#include "runtime/prefix_cache.h"
#include "runtime/prefix_file.h"
#include "runtime/prefix_folder.h"

namespace lapidary {

/// So many positions more than what is in memory are worth to be read.
inline constexpr std::size_t kWorthReading = 64;
/// So many positions behind what is there are worth to be written where nobody is known to share
/// them.
inline constexpr std::size_t kWorthWriting = 256;

/// A place that is to be written: a text that was computed, and its pages.
struct StoredPlace {
  std::vector<TokenId> ids;
  std::vector<PlacedPicture> pictures;
  PageTable table;
};

/// Beginnings of texts in a folder that processes share (docs/decisions/0033-prefixes-on-disk.md).
/// A help, no promise: what goes wrong with the folder is counted, and keys and values computed.
/// Safe to use from several threads, which tables and teams are not.
class PrefixDisk {
 public:
  /// For keys and values of a model of `config`, which must outlive it, as `identity` tells them
  /// from others. A folder that cannot be used is a problem in stats(), and leaves a cache that has
  /// nothing.
  PrefixDisk(const std::string& folder, std::uint64_t most_bytes, const KvIdentity& identity,
             const Config& config);

  struct Taken {
    std::size_t count = 0;   // Positions that the table has now; 0: none.
    std::size_t common = 0;  // Positions in common with anything, whether they can be taken or not.
    std::size_t stored = 0;  // Positions that could be taken, were there no `least`.
    bool spoilt = false;     // Nothing was taken, but the table is empty now.
  };
  /// Fills `table` with the longest beginning of `wanted` that is there, of at most `most`
  /// positions, if it has at least `least`. Reads with `team`. What turns out to be damaged is
  /// removed, and the next longest taken. Throws std::bad_alloc, and leaves the table then.
  Taken take(const PrefixView& wanted, std::size_t most, std::size_t least, PageTable& table,
             Team& team);

  /// Writes a place and what it stands on, as far as it is not there, and then removes what was
  /// unused longest where all takes more than it may.
  void write(const StoredPlace& place) noexcept;

  PrefixCacheStats stats() const;

 private:
  using Names = std::vector<PrefixName>;
  struct Search;

  Names names(const std::set<std::string>& but) const;
  std::size_t common(const Search& search, const PrefixView& wanted, const Names& names) const;
  bool load(std::span<const PrefixFile> files, PageTable& table, Team& team,
            std::set<std::string>& bad);
  void write(const PrefixView& prefix, const PageTable& table);
  PrefixFile file(const PrefixView& prefix, PrefixName::What what, int end, const Digest& hash,
                  const Digest& base) const;
  void note_failure(const char* problem) noexcept;

  const Config& config_;
  const std::size_t page_bytes_;
  Digest kind_{};
  std::optional<PrefixFolder> folder_;
  mutable std::mutex mutex_;  // Of what follows.
  PrefixCacheStats stats_;
};

}  // namespace lapidary
