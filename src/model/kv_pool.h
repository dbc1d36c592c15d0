#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/memory.h"
#include "kernels/kv_layout.h"
#include "model/config.h"

namespace lapidary {

/// A page of a KvPool: the keys and values of kPagePositions positions of one layer, all its KV
/// heads behind each other (kernels/kv_layout.h).
using PageId = std::int32_t;

/// Bytes of a page.
std::size_t kv_page_bytes(const Config& config, kernels::KvFormat format);

/// The pages of all sequences of an engine. A page is held by everyone who shares it, and free when
/// nobody does. Memory is taken as pages are first used, the lowest first, and kept. One thread at
/// a time.
class KvPool {
 public:
  /// Of `capacity` pages. Throws Error(kMemory).
  KvPool(const Config& config, kernels::KvFormat format, std::int64_t capacity);
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;

  kernels::KvFormat format() const { return format_; }
  std::size_t page_bytes() const { return page_bytes_; }
  std::int64_t capacity() const { return static_cast<std::int64_t>(holders_.size()); }
  std::int64_t used() const { return capacity() - static_cast<std::int64_t>(free_.size()); }

  /// Promises `pages` to somebody, of those that are promised to nobody. False: there are not as
  /// many, and nothing was promised.
  bool promise(std::int64_t pages);
  void give_back(std::int64_t pages) { promised_ -= pages; }
  std::int64_t promised() const { return promised_; }

  /// What lets pages go that are held beyond promises; false: there are none.
  void on_shortage(std::function<bool()> let_go) { let_go_ = std::move(let_go); }

  /// Lets go of what is held beyond promises until a page is free, if that helps.
  void make_room();
  /// A page of zeros, held once: nothing of another sequence. Within promises there always is one.
  PageId take();
  /// Another page with the bytes of `page`.
  PageId copy(PageId page);
  void hold(PageId page) { ++holders_[static_cast<std::size_t>(page)]; }
  void drop(PageId page);
  bool shared(PageId page) const { return holders_[static_cast<std::size_t>(page)] > 1; }

  std::byte* data(PageId page) const {
    return buffer_.data() + static_cast<std::size_t>(page) * page_bytes_;
  }

 private:
  PageId take_free(bool& used);

  kernels::KvFormat format_;
  std::size_t page_bytes_;
  std::vector<std::int32_t> holders_;  // [capacity]; of a page that nobody has had yet, negative.
  std::vector<PageId> free_;           // The next to be used last.
  std::int64_t promised_ = 0;
  std::function<bool()> let_go_;
  HugeBuffer buffer_;
};

}  // namespace lapidary
