// Pages of keys and values in files: which a table needs, that each is written once, and what a
// file may not say of them.

#include "runtime/kv_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "file_folder.h"
#include "lapidary/error.h"
#include "model/config.h"

namespace lapidary::testing {
namespace {

constexpr FileKind kKind{"PAGEFILE", 1, "file of pages"};
constexpr int kPage = kernels::kPagePositions;

/// Two local layers with a window of 64 around a global one.
Config small_config() {
  Config config;
  config.layers = 3;
  config.kv_heads = 1;
  config.head_dim = 16;
  config.sliding_window = 64;
  config.local = {true, false, true};
  return config;
}

class KvFile : public ::testing::Test {
 protected:
  Config config_ = small_config();
  KvPool pool_{config_, kernels::KvFormat::kBf16, 100};

  /// A table of `count` positions, each page filled with a letter of its own.
  PageTable filled(int count) {
    PageTable table(pool_, config_, 4096, 512);
    table.prepare(0, count);
    std::vector<PageId> pages;
    table.list_pages(pages);
    for (const PageId page : pages) std::memset(pool_.data(page), 'A' + page, pool_.page_bytes());
    return table;
  }

  static std::vector<char> letters(const PageTable& table, int layer, int count) {
    const PageTable::Layout layout = table.layout(count);
    std::vector<char> out;
    for (const PageId page : layout.layers[static_cast<std::size_t>(layer)].pages)
      out.push_back(static_cast<char>(*table.pool().data(page)));
    return out;
  }
};

TEST_F(KvFile, ALayoutIsWhatIsNeeded) {
  const PageTable table = filled(1000);
  const PageTable::Layout layout = table.layout(1000);
  // Of a local layer the positions from 1000 - 16 - 63 = 921 on, of a global one all.
  EXPECT_EQ(layout.layers[0].first, 921 / kPage);
  EXPECT_EQ(layout.layers[0].pages.size(), 1U);
  EXPECT_EQ(layout.layers[1].first, 0);
  EXPECT_EQ(layout.layers[1].pages.size(), 8U);
  EXPECT_TRUE(table.layout(1000, true).layers[1].pages.empty()) << "a snapshot's has none";
  const PageTable::Layout begun = PageTable::layout(config_, 950, 900, 960);
  EXPECT_EQ(begun.layers[0].first, 950 / kPage);
  EXPECT_EQ(begun.layers[1].pages.size(), 8U);
  EXPECT_EQ(PageTable::layout(config_, 0, 0, 0).layers[1].pages.size(), 0U);
}

TEST_F(KvFile, TablesComeBackAndShareWhatTheyShared) {
  const Folder folder;
  const PageTable table = filled(1000);
  const PageTable windows = table.windows(1000);
  PageNumbers numbers;
  FieldWriter fields;
  write_table(fields, table, 1000, false, numbers);
  write_table(fields, windows, 1000, true, numbers);
  EXPECT_EQ(numbers.pages().size(), 10U) << "what both have is written once";
  {
    CheckedWriter out(folder.path("a"), kKind);
    out.section("tables", fields.written());
    write_pages(out, "pages", pool_, numbers.pages(), nullptr);
    out.commit(Outlives::kProcess);
  }
  KvPool other(config_, kernels::KvFormat::kBf16, 10);
  PageTable first(other, config_, 4096, 512), second(other, config_, 0, 0);
  {
    const CheckedReader in(folder.path("a"), kKind);
    const std::vector<std::byte> bytes = in.read("tables", 4096);
    FieldReader tables(bytes, in, "the table");
    const PageTable::Layout of_first = read_table(tables, config_, 1000, 1000, false, 10);
    const PageTable::Layout of_second = read_table(tables, config_, 1000, 1000, true, 10);
    tables.finish();
    FreshPages fresh(other);
    fresh.read(in, "pages", 10, nullptr);
    first.take(fresh.numbered(of_first));
    second.take(fresh.numbered(of_second));
  }
  EXPECT_EQ(other.used(), 10);
  EXPECT_TRUE(first.reaches_back(1000));
  for (const int layer : {0, 1, 2})
    EXPECT_EQ(letters(first, layer, 1000), letters(table, layer, 1000));
  first.clear();
  EXPECT_EQ(other.used(), 2) << "the windows are held by the snapshot";
  second.clear();
  EXPECT_EQ(other.used(), 0);
}

// Files have whole pages: nothing of who had them before may be in them.
TEST_F(KvFile, PagesThatAreTakenAgainAreEmpty) {
  { const PageTable before = filled(3000); }
  PageTable table(pool_, config_, 4096, 512);
  table.prepare(0, 3000);
  std::vector<PageId> pages;
  table.list_pages(pages);
  EXPECT_EQ(pages.size(), 72U);
  for (const PageId page : pages) {
    const Bytes bytes(pool_.data(page), pool_.page_bytes());
    ASSERT_EQ(std::ranges::count(bytes, std::byte{0}), static_cast<long>(bytes.size()));
  }
}

TEST_F(KvFile, PagesThatNobodyTookAreFreeAgain) {
  const Folder folder;
  const PageTable table = filled(1000);
  std::vector<PageId> pages;
  table.list_pages(pages);
  {
    CheckedWriter out(folder.path("a"), kKind);
    write_pages(out, "pages", pool_, pages, nullptr);
    out.commit(Outlives::kProcess);
  }
  const CheckedReader in(folder.path("a"), kKind);
  KvPool other(config_, kernels::KvFormat::kBf16, 3);
  {
    const auto wanted = std::make_unique<bool[]>(pages.size());
    wanted[1] = wanted[4] = true;
    FreshPages fresh(other);
    fresh.read(in, "pages", {wanted.get(), pages.size()}, nullptr);
    EXPECT_EQ(other.used(), 2);
    PageTable::Layout layout;
    layout.layers.push_back({{1, 4}, 0});
    layout = fresh.numbered(layout);
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(std::memcmp(other.data(layout.layers[0].pages[i]),
                            pool_.data(pages[i == 0 ? 1 : 4]), other.page_bytes()),
                0);
    }
    EXPECT_THROW(fresh.read(in, "pages", pages.size() + 1, nullptr), Error);
    EXPECT_EQ(other.used(), 2) << "nothing was taken for a section of another length";
    EXPECT_THROW(fresh.read(in, "pages", pages.size(), nullptr), Error);
  }
  EXPECT_EQ(other.used(), 0);
}

/// Reads a table out of `numbers`.
std::string error_of(const Config& config, const std::vector<std::uint32_t>& numbers, int count,
                     std::uint32_t pages) {
  const Folder folder;
  FieldWriter fields;
  for (const std::uint32_t number : numbers) fields.number(number);
  {
    CheckedWriter out(folder.path("a"), kKind);
    out.section("table", fields.written());
    out.commit(Outlives::kProcess);
  }
  const CheckedReader in(folder.path("a"), kKind);
  const std::vector<std::byte> bytes = in.read("table", 4096);
  FieldReader reader(bytes, in, "the table");
  try {
    read_table(reader, config, count, 200, false, pages);
    return {};
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kFile);
    const std::string message = error.what();
    return message.substr(message.find("damaged: ") + 9);
  }
}

TEST_F(KvFile, TablesThatCannotBeAreRefused) {
  // windows_begin, global_end, then first, count and numbers of each layer.
  const std::vector<std::uint32_t> good = {0, 0, 0, 1, 0, 0, 1, 1, 0, 1, 2};
  EXPECT_EQ(error_of(config_, good, 100, 3), "");
  const auto with = [&](std::size_t at, std::uint32_t number) {
    std::vector<std::uint32_t> bad = good;
    bad[at] = number;
    return error_of(config_, bad, 100, 3);
  };
  EXPECT_EQ(with(0, 101), "the table has the number 101, expected at most 100");
  EXPECT_EQ(with(1, 201), "the table has the number 201, expected at most 200");
  EXPECT_EQ(with(1, 150), "a layer has 1 pages from 0 on, expected 2 from 0 on");
  EXPECT_EQ(with(2, 1), "a layer has 1 pages from 1 on, expected 1 from 0 on");
  EXPECT_EQ(with(3, 0xFFFFFFFF), "a layer has 4294967295 pages from 0 on, expected 1 from 0 on");
  EXPECT_EQ(with(10, 3), "the table has the number 3, expected at most 2");
  EXPECT_EQ(error_of(config_, good, 100, 0), "a layer has pages, but there are none");
  EXPECT_EQ(error_of(config_, {0, 0, 0}, 100, 3), "the table ends early");
}

}  // namespace
}  // namespace lapidary::testing
