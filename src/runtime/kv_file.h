#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/page_table.h"
#include "runtime/checked_file.h"

// Pages of keys and values in checked files. The fields of a table number its pages; a section has
// their bytes in the order of these numbers. What stands in a page at positions that its table does
// not count may be anything.

namespace lapidary {

/// The pages of some tables, each once, numbered in the order in which they were first met.
class PageNumbers {
 public:
  std::uint32_t number(PageId page);
  std::span<const PageId> pages() const { return pages_; }

 private:
  std::vector<PageId> pages_;
  std::unordered_map<PageId, std::uint32_t> numbers_;
};

/// Adds the fields of what a sequence needs of `table` that goes on behind the first `count`
/// positions, or of a snapshot's windows.
void write_table(FieldWriter& out, const PageTable& table, int count, bool windows_alone,
                 PageNumbers& numbers);

/// Reads them again: `pages` of the layout are numbers below `pages`. Throws Error(kFile) for what
/// could not come of a table that has `count` positions behind which a sequence of `end` ids goes
/// on.
PageTable::Layout read_table(FieldReader& in, const Config& config, int count, int end,
                             bool windows_alone, std::uint32_t pages);

/// Adds a section that holds `pages` of `pool`. Throws Error(kFile), Error(kInterrupted).
void write_pages(CheckedWriter& out, std::string_view section, const KvPool& pool,
                 std::span<const PageId> pages, const std::atomic<bool>* cancel);

/// Pages of a pool to be filled. Those that no table has taken when this goes are free again.
class FreshPages {
 public:
  explicit FreshPages(KvPool& pool) : pool_(pool) {}
  ~FreshPages();
  FreshPages(const FreshPages&) = delete;
  FreshPages& operator=(const FreshPages&) = delete;

  /// Takes pages for a whole section and fills them, but for those that are not `wanted`, which are
  /// only checked. Throws Error(kFile) when it holds another number of pages, before any is taken,
  /// or is damaged: they then hold anything. Error(kInterrupted) once `cancel` is set,
  /// Error(kFailed) when the pool has not as many.
  void read(const CheckedReader& file, std::string_view section, std::span<const bool> wanted,
            const std::atomic<bool>* cancel);

  /// The same of all of `count` pages.
  void read(const CheckedReader& file, std::string_view section, std::size_t count,
            const std::atomic<bool>* cancel);

  /// `layout` with pages in the place of their numbers here, all of them wanted ones.
  PageTable::Layout numbered(PageTable::Layout layout) const;

 private:
  static constexpr PageId kNone = -1;

  KvPool& pool_;
  std::vector<PageId> pages_;  // kNone: not wanted.
};

}  // namespace lapidary
