#include "runtime/kv_file.h"

#include <algorithm>
#include <bit>
#include <memory>

#include "base/format.h"

namespace lapidary {

static_assert(std::endian::native == std::endian::little, "pages lie in files as in memory");

std::uint32_t PageNumbers::number(PageId page) {
  const auto [found, added] = numbers_.try_emplace(page, static_cast<std::uint32_t>(pages_.size()));
  if (added) pages_.push_back(page);
  return found->second;
}

void write_table(FieldWriter& out, const PageTable& table, int count, bool windows_alone,
                 PageNumbers& numbers) {
  const PageTable::Layout layout = table.layout(count, windows_alone);
  out.number(static_cast<std::uint32_t>(layout.windows_begin));
  out.number(static_cast<std::uint32_t>(layout.global_end));
  for (const PageTable::Layer& layer : layout.layers) {
    out.number(static_cast<std::uint32_t>(layer.first));
    out.number(static_cast<std::uint32_t>(layer.pages.size()));
    for (const PageId page : layer.pages) out.number(numbers.number(page));
  }
}

PageTable::Layout read_table(FieldReader& in, const Config& config, int count, int end,
                             bool windows_alone, std::uint32_t pages) {
  const int windows_begin = in.number_to(count);
  const int global_end = in.number_to(end);
  // Which pages there must be follows from the numbers; only which are shared does not.
  PageTable::Layout out =
      PageTable::layout(config, windows_begin, global_end, count, windows_alone);
  for (PageTable::Layer& layer : out.layers) {
    const auto first = in.number<std::uint32_t>(), size = in.number<std::uint32_t>();
    if (first != static_cast<std::uint32_t>(layer.first) || size != layer.pages.size()) {
      in.damaged(format("a layer has {} pages from {} on, expected {} from {} on", size, first,
                        layer.pages.size(), layer.first));
    }
    for (PageId& page : layer.pages) {
      if (pages == 0) in.damaged("a layer has pages, but there are none");
      page = in.number_to(static_cast<int>(pages - 1));
    }
  }
  return out;
}

void write_pages(CheckedWriter& out, std::string_view section, const KvPool& pool,
                 std::span<const PageId> pages, const std::atomic<bool>* cancel) {
  std::vector<ConstBytes> parts;
  parts.reserve(pages.size());
  for (const PageId page : pages) parts.emplace_back(pool.data(page), pool.page_bytes());
  out.section(section, parts, cancel);
}

FreshPages::~FreshPages() {
  for (const PageId page : pages_) {
    if (page != kNone) pool_.drop(page);
  }
}

void FreshPages::read(const CheckedReader& file, std::string_view section,
                      std::span<const bool> wanted, const std::atomic<bool>* cancel) {
  const std::uint64_t expected = std::uint64_t{wanted.size()} * pool_.page_bytes();
  if (const std::uint64_t found = file.bytes(section); found != expected) {
    file.damaged(format("section \"{}\" has {} bytes, expected {}", section, found, expected));
  }
  std::vector<std::byte> scratch(std::ranges::count(wanted, false) > 0 ? pool_.page_bytes() : 0);
  std::vector<Bytes> parts;
  parts.reserve(wanted.size());
  pages_.reserve(pages_.size() + wanted.size());
  for (const bool page_wanted : wanted) {
    pages_.push_back(page_wanted ? pool_.take() : kNone);
    parts.push_back(page_wanted ? Bytes(pool_.data(pages_.back()), pool_.page_bytes())
                                : Bytes(scratch));
  }
  file.read(section, parts, cancel);
}

void FreshPages::read(const CheckedReader& file, std::string_view section, std::size_t count,
                      const std::atomic<bool>* cancel) {
  const auto wanted = std::make_unique<bool[]>(count);
  std::fill_n(wanted.get(), count, true);
  read(file, section, {wanted.get(), count}, cancel);
}

PageTable::Layout FreshPages::numbered(PageTable::Layout layout) const {
  for (PageTable::Layer& layer : layout.layers) {
    for (PageId& page : layer.pages) page = pages_[static_cast<std::size_t>(page)];
  }
  return layout;
}

}  // namespace lapidary
