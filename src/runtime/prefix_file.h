#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"
#include "model/page_table.h"
#include "runtime/digest.h"
#include "runtime/prefix_cache.h"
#include "runtime/prefix_folder.h"
#include "runtime/prefix_names.h"

namespace lapidary {

/// A file of a prefix cache, as whoever knows the text expects it: a head with ids and pictures,
/// pages, and the SHA-256 of all that.
class PrefixFile {
 public:
  /// The one called `name` of `prefix`, whose hash up to name.end is `hash`.
  PrefixFile(const Digest& kind, const Digest& hash, PrefixName name, const PrefixView& prefix,
             const Config& config, std::size_t page_bytes);

  const PrefixName& name() const { return name_; }
  std::uint64_t bytes() const;

  /// Writes it from `table`, which has computed so far and reaches back to name.end for a place.
  /// Throws Error(kFile).
  void write(const PrefixFolder& folder, const PageTable& table) const;

  enum class Got {
    kWhole,
    kAbsent,   // There is none, or it cannot be opened.
    kDamaged,  // What was read is not what was written, or of something else.
  };
  /// Fills the pages of `table`, which are there. Where it was not whole they are anything.
  Got read(const PrefixFolder& folder, const PageTable& table) const;

 private:
  /// A page of a layer, numbered as PageTable numbers them.
  struct Page {
    int layer;
    int number;
  };

  PrefixName name_;
  std::size_t page_bytes_;
  std::vector<std::byte> head_;
  std::vector<Page> pages_;
};

/// The ids and pictures that a file holds, counted from name.begin() on. They are a hint: neither
/// hash was looked at.
struct HeldText {
  std::vector<TokenId> ids;
  std::vector<PlacedPicture> pictures;

  PrefixView view() const { return {ids, pictures}; }
};

/// Those of the file called `name`; nothing where it cannot be read.
HeldText read_text(const PrefixFolder& folder, const PrefixName& name);

/// What of `prefix` lies behind its first `begin` ids, counted from there on; of pictures, those
/// that begin there, which are left in `pictures`.
PrefixView text_behind(const PrefixView& prefix, int begin, std::vector<PlacedPicture>& pictures);

}  // namespace lapidary
