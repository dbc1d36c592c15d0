#include "model/page_table.h"

#include <algorithm>

namespace lapidary {

using kernels::kPagePositions;

std::int64_t layer_pages(const Config& config, bool local, int tokens, int pass) {
  const std::int64_t all = (std::int64_t{tokens} + kPagePositions - 1) / kPagePositions;
  // Window and pass may both begin and end within a page.
  const std::int64_t seen =
      (std::int64_t{config.sliding_window} + kMostRewind + pass) / kPagePositions + 2;
  return local ? std::min(seen, all) : all;
}

std::int64_t sequence_pages(const Config& config, int tokens, int pass, bool global_only) {
  std::int64_t pages = 0;
  for (const bool local : config.local)
    pages += layer_pages(config, local && !global_only, tokens, pass);
  return pages;
}

int first_page_of_window(const Config& config, int count) {
  return std::max(0, count - kMostRewind - config.sliding_window + 1) / kPagePositions;
}

int windows_length(const Config& config) {
  const auto local = static_cast<int>(std::ranges::count(config.local, true));
  return local * (config.sliding_window - 1);
}

namespace {

/// That `count` positions reach into.
int pages_of(int count) { return (count + kPagePositions - 1) / kPagePositions; }

}  // namespace

PageTable::PageTable(KvPool& pool, const Config& config, int context, int pass)
    : pool_(&pool),
      config_(&config),
      head_bytes_(kernels::kv_head_bytes(pool.format(), config.head_dim)),
      layers_(config.local.size()) {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const std::int64_t pages = layer_pages(config, config.local[i], context, pass);
    layers_[i].pages.reserve(static_cast<std::size_t>(pages));
  }
}

PageTable::PageTable(const PageTable& other)
    : pool_(other.pool_),
      config_(other.config_),
      head_bytes_(other.head_bytes_),
      windows_begin_(other.windows_begin_),
      global_end_(other.global_end_),
      layers_(other.layers_) {
  for (const Layer& layer : layers_) {
    for (const PageId page : layer.pages) pool_->hold(page);
  }
}

void PageTable::prepare(int begin, int end) {
  if (begin == 0 && global_end_ == 0) clear();
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const int kept = config_->local[i] ? 0 : global_end_;
    prepare(layers_[i], config_->local[i], std::max(begin, kept), std::max(end, kept));
  }
}

void PageTable::prepare(Layer& layer, bool local, int begin, int end) {
  cut(layer, local, begin, end);
  auto& pages = layer.pages;
  const auto wanted = static_cast<std::size_t>(pages_of(end) - layer.first);
  for (auto i = static_cast<std::size_t>(begin / kPagePositions - layer.first); i < wanted; ++i) {
    const bool written = (static_cast<int>(i) + layer.first) * kPagePositions < begin;
    if (i == pages.size()) {
      pages.push_back(pool_->take());
    } else if (pool_->shared(pages[i])) {
      write_alone(pages[i], written);
    }
  }
}

/// Lets go of pages that no window from `begin` on sees, and of those from `end` on.
void PageTable::cut(Layer& layer, bool local, int begin, int end) const {
  auto& pages = layer.pages;
  const int unseen =
      std::min(std::max(0, first_page(local, begin) - layer.first), static_cast<int>(pages.size()));
  for (int i = 0; i < unseen; ++i) pool_->drop(pages[static_cast<std::size_t>(i)]);
  pages.erase(pages.begin(), pages.begin() + unseen);
  layer.first += unseen;
  const auto wanted = static_cast<std::size_t>(std::max(0, pages_of(end) - layer.first));
  for (; pages.size() > wanted; pages.pop_back()) pool_->drop(pages.back());
}

bool PageTable::trim(int count) {
  const std::int64_t before = pages();
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const int there = config_->local[i] ? count : std::max(count, global_end_);
    cut(layers_[i], config_->local[i], count, there);
  }
  return pages() < before;
}

/// Puts a page of its own in the place of a shared one, with its bytes where they are to be kept.
void PageTable::write_alone(PageId& page, bool keep) const {
  pool_->make_room();
  if (!pool_->shared(page)) return;  // Who shared it has let go.
  const PageId own = keep ? pool_->copy(page) : pool_->take();
  pool_->drop(page);
  page = own;
}

bool PageTable::reaches_back(int count) const {
  if (!leads_to(count)) return false;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (layers_[i].first > first_page(config_->local[i], count)) return false;
  }
  return true;
}

void PageTable::share(const PageTable& other) {
  take(other.layers_);
  windows_begin_ = other.windows_begin_;
  global_end_ = other.global_end_;
}

void PageTable::share(const PageTable& other, int count) {
  clear();
  for (std::size_t i = 0; i < layers_.size(); ++i) share(i, other, count);
  windows_begin_ = other.windows_begin_;
}

/// Takes, for a layer without pages, those of the first `count` positions that it needs.
void PageTable::share(std::size_t i, const PageTable& other, int count) {
  const Layer& theirs = other.layers_[i];
  Layer& layer = layers_[i];
  layer.first = first_page(config_->local[i], count);
  for (int page = layer.first; page * kPagePositions < count; ++page) {
    layer.pages.push_back(theirs.pages[static_cast<std::size_t>(page - theirs.first)]);
    pool_->hold(layer.pages.back());
  }
}

void PageTable::take_pages(int count) {
  clear();
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    layer.first = first_page(config_->local[i], count);
    for (int page = layer.first; page * kPagePositions < count; ++page)
      layer.pages.push_back(pool_->take());
  }
}

std::span<std::byte> PageTable::page(int layer, int number) const {
  const Layer& own = layers_[static_cast<std::size_t>(layer)];
  const PageId page = own.pages[static_cast<std::size_t>(number - own.first)];
  return {pool_->data(page), pool_->page_bytes()};
}

PageTable PageTable::windows(int count) const {
  PageTable out(*pool_, *config_, 0, 0);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (config_->local[i]) out.share(i, *this, count);
  }
  out.windows_begin_ = windows_begin_;
  return out;
}

void PageTable::restore(const PageTable& windows, int count) {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (!config_->local[i]) continue;
    clear(layers_[i]);
    share(i, windows, count);
  }
  windows_begin_ = windows.windows_begin_;
  global_end_ = 0;
}

void PageTable::begin_windows(int begin, int end) {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (!config_->local[i]) continue;
    clear(layers_[i]);
    layers_[i].first = begin / kPagePositions;
  }
  windows_begin_ = begin;
  global_end_ = end;
}

PageTable::Layout PageTable::layout(const Config& config, int windows_begin, int global_end,
                                    int count, bool windows_alone) {
  Layout out{windows_begin, global_end, std::vector<Layer>(config.local.size())};
  PageId next = 0;
  for (std::size_t i = 0; i < out.layers.size(); ++i) {
    const bool local = config.local[i];
    if (windows_alone && !local) continue;
    Layer& layer = out.layers[i];
    if (local)
      layer.first = std::max(first_page_of_window(config, count), windows_begin / kPagePositions);
    const int end = local ? count : std::max(count, global_end);
    for (int page = layer.first; page * kPagePositions < end; ++page) layer.pages.push_back(next++);
  }
  return out;
}

PageTable::Layout PageTable::layout(int count, bool windows_alone) const {
  Layout out = layout(*config_, windows_begin_, global_end_, count, windows_alone);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const auto skipped = static_cast<std::ptrdiff_t>(out.layers[i].first - layers_[i].first);
    std::copy_n(layers_[i].pages.begin() + skipped, out.layers[i].pages.size(),
                out.layers[i].pages.begin());
  }
  return out;
}

void PageTable::take(const std::vector<Layer>& layers) {
  clear();
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].first = layers[i].first;
    for (const PageId page : layers[i].pages) {
      layers_[i].pages.push_back(page);
      pool_->hold(page);
    }
  }
}

void PageTable::take(const Layout& layout) {
  take(layout.layers);
  windows_begin_ = layout.windows_begin;
  global_end_ = layout.global_end;
}

void PageTable::clear() {
  for (Layer& layer : layers_) clear(layer);
  windows_begin_ = global_end_ = 0;
}

void PageTable::clear(Layer& layer) const {
  for (const PageId page : layer.pages) pool_->drop(page);
  layer.pages.clear();
  layer.first = 0;
}

void PageTable::list_pages(std::vector<PageId>& out) const {
  for (const Layer& layer : layers_) out.insert(out.end(), layer.pages.begin(), layer.pages.end());
}

std::int64_t PageTable::pages() const {
  std::int64_t pages = 0;
  for (const Layer& layer : layers_) pages += static_cast<std::int64_t>(layer.pages.size());
  return pages;
}

kernels::KvPages PageTable::head(int layer, int kv_head) const {
  const Layer& own = layers_[static_cast<std::size_t>(layer)];
  return {pool_->data(0) + static_cast<std::size_t>(kv_head) * head_bytes_, pool_->page_bytes(),
          own.pages.data(), own.first};
}

std::byte* PageTable::head_at(int layer, int kv_head, std::int64_t position) const {
  const Layer& own = layers_[static_cast<std::size_t>(layer)];
  const auto page = static_cast<std::size_t>(position / kPagePositions - own.first);
  return pool_->data(own.pages[page]) + static_cast<std::size_t>(kv_head) * head_bytes_;
}

}  // namespace lapidary
