#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kv_layout.h"
#include "model/config.h"
#include "model/kv_pool.h"

namespace lapidary {

/// How far a sequence may go back from the end of what was ever computed of it: local layers keep
/// so many positions beyond their window.
inline constexpr int kMostRewind = 16;

/// Pages that a layer of a sequence of `tokens` tokens holds at most, between passes and while
/// `pass` tokens are computed.
std::int64_t layer_pages(const Config& config, bool local, int tokens, int pass);

/// Pages of all layers.
std::int64_t sequence_pages(const Config& config, int tokens, int pass, bool global_only = false);

/// Number of the first page of a local layer that a sequence needs to go on behind its first
/// `count` positions, and kMostRewind before.
int first_page_of_window(const Config& config, int count);

/// Positions that have to be computed in front of one at which every window of the local layers is
/// to be right, when the keys and values of the global layers are there.
int windows_length(const Config& config);

/// The keys and values of one sequence: for every layer the pages that its positions lie in. Global
/// layers have all positions, local ones those that their window still sees. Full pages are never
/// written again while they are shared; a shared one that is to be written is copied first.
class PageTable {
 public:
  /// An empty one, whose vectors have room for `context` tokens in passes of `pass`; `pool` and
  /// `config` must outlive it.
  PageTable(KvPool& pool, const Config& config, int context, int pass);
  ~PageTable() { clear(); }
  PageTable(const PageTable& other);  // Shares all pages.
  PageTable(PageTable&& other) noexcept = default;
  PageTable& operator=(const PageTable&) = delete;
  PageTable& operator=(PageTable&&) = delete;

  /// Before positions [begin, end) are computed behind `begin` others: every layer has pages of its
  /// own for them, and has let go of those that no window from `begin` - kMostRewind on sees.
  void prepare(int begin, int end);

  /// Whether a sequence could go on behind the first `count` positions, and kMostRewind before.
  bool reaches_back(int count) const;

  /// Whether a sequence that goes on from where this table ends has right windows behind the first
  /// `count` positions, and kMostRewind before.
  bool leads_to(int count) const { return windows_begin_ == 0 || count - kMostRewind >= right(); }

  /// The windows of the local layers in front of `count` alone, to which this table reaches back:
  /// what a snapshot holds.
  PageTable windows(int count) const;

  /// Goes back to the first `count` positions, which the global layers have, with these windows.
  void restore(const PageTable& windows, int count);

  /// Lets go of the local layers and goes on from position `begin` without what lies in front of
  /// it, while the global layers keep the `end` positions that they have. Behind
  /// windows_length(config) positions every window is right again (docs/numerics.md).
  void begin_windows(int begin, int end);

  /// The first position that a local layer knows.
  int windows_begin() const { return windows_begin_; }
  /// So many positions of the global layers are there though they are still to be computed again.
  int global_end() const { return global_end_; }
  /// What is there of global layers behind the first `count` positions is of no use any more.
  void cut(int count) { global_end_ = std::min(global_end_, count); }
  /// Whether the keys and values of a position of a layer are there already, and are kept.
  bool has(int layer, std::int64_t position) const {
    return position < global_end_ && !config_->local[static_cast<std::size_t>(layer)];
  }

  /// Takes, instead of what it has, all that `other` has.
  void share(const PageTable& other);

  /// Takes, instead of what it has, the pages of the first `count` positions of `other`, which
  /// reaches back so far.
  void share(const PageTable& other, int count);

  /// Takes, instead of what it has, pages of its own for what the first `count` positions leave
  /// behind: all of global layers, windows of local ones. Their bytes are anything.
  void take_pages(int count);

  /// The bytes of page `number` of a layer, which is there. That of position 0 has number 0.
  std::span<std::byte> page(int layer, int number) const;

  /// What of a table is numbers: what is left to make of windows (see begin_windows), and pages.
  struct Layer {
    std::vector<PageId> pages;
    int first = 0;  // Number of pages[0]: of positions first · kPagePositions and on.
  };
  struct Layout {
    int windows_begin = 0;
    int global_end = 0;
    std::vector<Layer> layers;
  };

  /// What a sequence needs of it that goes on behind the first `count` positions, which are
  /// computed; or, of a snapshot's, what there is of local layers alone.
  Layout layout(int count, bool windows_alone = false) const;

  /// Which pages that is in every layer, as numbers of positions alone: `pages` are 0, 1, 2, …
  /// through all layers.
  static Layout layout(const Config& config, int windows_begin, int global_end, int count,
                       bool windows_alone = false);

  /// Takes, instead of what it has, what layout() gave of a table of the same model. The pages are
  /// held by who calls, too.
  void take(const Layout& layout);

  /// Lets go of pages that going on behind the first `count` positions does not need, as a long
  /// pass leaves them; false: there are none.
  bool trim(int count);

  void clear();

  /// Pages held, those shared with others included.
  std::int64_t pages() const;
  /// Appends their numbers to `out`.
  void list_pages(std::vector<PageId>& out) const;

  kernels::KvPages head(int layer, int kv_head) const;

  /// Where the part of a KV head begins in the page that has `position`.
  std::byte* head_at(int layer, int kv_head, std::int64_t position) const;

  KvPool& pool() const { return *pool_; }

 private:
  /// The first page that a window from `begin` - kMostRewind on sees.
  int first_page(bool local, int begin) const {
    return local ? first_page_of_window(*config_, begin) : 0;
  }
  void prepare(Layer& layer, bool local, int begin, int end);
  void cut(Layer& layer, bool local, int begin, int end) const;
  void write_alone(PageId& page, bool keep) const;
  /// From here on windows are right, once they are computed.
  int right() const { return windows_begin_ + windows_length(*config_); }
  void share(std::size_t layer, const PageTable& other, int count);
  void take(const std::vector<Layer>& layers);
  void clear(Layer& layer) const;

  KvPool* pool_;
  const Config* config_;
  std::size_t head_bytes_;
  int windows_begin_ = 0;
  int global_end_ = 0;  // Of positions that begin_windows found in the global layers.
  std::vector<Layer> layers_;
};

}  // namespace lapidary
