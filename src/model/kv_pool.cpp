#include "model/kv_pool.h"

#include <cstring>

#include "lapidary/error.h"

namespace lapidary {

namespace {

constexpr std::int32_t kNeverHeld = -1;  // Zeros still.

}  // namespace

std::size_t kv_page_bytes(const Config& config, kernels::KvFormat format) {
  return static_cast<std::size_t>(config.kv_heads) *
         kernels::kv_head_bytes(format, config.head_dim);
}

KvPool::KvPool(const Config& config, kernels::KvFormat format, std::int64_t capacity)
    : format_(format),
      page_bytes_(kv_page_bytes(config, format)),
      holders_(static_cast<std::size_t>(capacity), kNeverHeld),
      buffer_(static_cast<std::size_t>(capacity) * page_bytes_) {
  free_.reserve(holders_.size());
  for (std::int64_t page = capacity; page-- > 0;) free_.push_back(static_cast<PageId>(page));
}

bool KvPool::promise(std::int64_t pages) {
  if (pages > capacity() - promised_) return false;
  promised_ += pages;
  return true;
}

void KvPool::make_room() {
  while (free_.empty() && let_go_ && let_go_()) {
  }
}

PageId KvPool::take() {
  bool used = false;
  const PageId page = take_free(used);
  if (used) std::memset(data(page), 0, page_bytes_);
  return page;
}

PageId KvPool::copy(PageId page) {
  bool used = false;
  const PageId own = take_free(used);
  std::memcpy(data(own), data(page), page_bytes_);
  return own;
}

/// `used`: whether it has bytes of somebody before.
PageId KvPool::take_free(bool& used) {
  make_room();
  if (free_.empty())
    throw Error(ErrorCode::kFailed, "all pages of keys and values are taken: a fault of Lapidary");
  const PageId page = free_.back();
  free_.pop_back();
  std::int32_t& holders = holders_[static_cast<std::size_t>(page)];
  used = holders != kNeverHeld;
  holders = 1;
  return page;
}

void KvPool::drop(PageId page) {
  if (--holders_[static_cast<std::size_t>(page)] == 0) free_.push_back(page);
}

}  // namespace lapidary
