#pragma once

#include <cstddef>
#include <cstdint>
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

  /// Whether a sequence could go on behind the first `count` positions.
  bool reaches_back(int count) const;

  /// Takes, instead of what it has, the pages of the first `count` positions of `other`, which
  /// reaches back so far.
  void share(const PageTable& other, int count);

  void clear();

  /// Pages held, those shared with others included.
  std::int64_t pages() const;

  kernels::KvPages head(int layer, int kv_head) const;

  /// Where the part of a KV head begins in the page that has `position`.
  std::byte* head_at(int layer, int kv_head, std::int64_t position) const;

  KvPool& pool() const { return *pool_; }

 private:
  struct Layer {
    std::vector<PageId> pages;
    int first = 0;  // Number of pages[0]: of positions first · kPagePositions and on.
  };
  int first_page(bool local, int begin) const;
  void prepare(Layer& layer, bool local, int begin, int end);
  void write_alone(PageId& page, bool keep) const;

  KvPool* pool_;
  const Config* config_;
  std::size_t head_bytes_;
  std::vector<Layer> layers_;
};

}  // namespace lapidary
