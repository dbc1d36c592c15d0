#include "runtime/prefix_file.h"

#include <optional>
#include <utility>

#include "lapidary/error.h"

namespace lapidary {

namespace {

/// What a file begins with. Numbers are in the machine's own order: from a machine of the other
/// one, the first is not what it must be.
struct Head {
  std::uint64_t magic = 0x4C41504950465831;  // "LAPIPFX1"
  Digest kind{};
  Digest hash{};
  std::int32_t what = 0;
  std::int32_t begin = 0;
  std::int32_t end = 0;
  std::int32_t pictures = 0;  // That begin within.
  std::uint64_t pages = 0;
  std::uint64_t page_bytes = 0;
};
static_assert(sizeof(Head) == 104, "there is no padding, whose bytes could be anything");

/// Begin counted from the first id of the file.
struct HeldPicture {
  std::int32_t begin;
  std::int32_t count;
  Digest features;
};
static_assert(sizeof(HeldPicture) == 40);

template <class T>
void put(std::vector<std::byte>& out, std::span<const T> values) {
  const std::span<const std::byte> bytes = std::as_bytes(values);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

int pages_to(int end) { return (end + kernels::kPagePositions - 1) / kernels::kPagePositions; }

}  // namespace

PrefixView text_behind(const PrefixView& prefix, int begin, std::vector<PlacedPicture>& pictures) {
  pictures.clear();
  for (const PlacedPicture& picture : prefix.pictures) {
    if (picture.begin >= begin)
      pictures.push_back({picture.begin - begin, picture.count, picture.features});
  }
  return {prefix.ids.subspan(static_cast<std::size_t>(begin)), pictures};
}

PrefixFile::PrefixFile(const Digest& kind, const Digest& hash, PrefixName name,
                       const PrefixView& prefix, const Config& config, std::size_t page_bytes)
    : name_(std::move(name)), page_bytes_(page_bytes) {
  const int begin = name_.begin();
  const bool place = name_.what == PrefixName::What::kPlace;
  for (std::size_t i = 0; i < config.local.size(); ++i) {
    if (config.local[i] && !place) continue;
    const int layer = static_cast<int>(i);
    const int first =
        config.local[i] ? first_page_of_window(config, name_.end) : begin / kernels::kPagePositions;
    for (int number = first; number < pages_to(name_.end); ++number)
      pages_.push_back({layer, number});
  }
  std::vector<HeldPicture> pictures;
  for (const PlacedPicture& picture : prefix.pictures) {
    if (picture.begin >= begin && picture.begin < name_.end)
      pictures.push_back({picture.begin - begin, picture.count, picture.features});
  }
  const Head head{.kind = kind,
                  .hash = hash,
                  .what = static_cast<std::int32_t>(name_.what),
                  .begin = begin,
                  .end = name_.end,
                  .pictures = static_cast<std::int32_t>(pictures.size()),
                  .pages = pages_.size(),
                  .page_bytes = page_bytes_};
  put(head_, std::span(&head, 1));
  const auto count = static_cast<std::size_t>(name_.end - begin);
  put(head_, prefix.ids.subspan(static_cast<std::size_t>(begin), count));
  put(head_, std::span<const HeldPicture>(pictures));
}

std::uint64_t PrefixFile::bytes() const {
  return head_.size() + pages_.size() * page_bytes_ + sizeof(Digest);
}

void PrefixFile::write(const PrefixFolder& folder, const PageTable& table) const {
  Hasher hasher;
  std::vector<std::span<const std::byte>> parts{head_};
  for (const Page& page : pages_) parts.emplace_back(table.page(page.layer, page.number));
  for (const std::span<const std::byte> part : parts) hasher.bytes(part);
  const Digest checksum = hasher.finish();
  parts.push_back(std::as_bytes(std::span(checksum)));
  folder.write(name_.text(), parts);
}

PrefixFile::Got PrefixFile::read(const PrefixFolder& folder, const PageTable& table) const {
  std::optional<File> file;
  try {
    file.emplace(folder.open(name_.text()));
  } catch (const Error&) {
    return Got::kAbsent;
  }
  if (file->size() != bytes()) return Got::kDamaged;
  try {
    std::vector<std::byte> head(head_.size());
    file->read(0, head);
    if (head != head_) return Got::kDamaged;
    Hasher hasher;
    hasher.bytes(head);
    std::uint64_t at = head.size();
    for (const Page& page : pages_) {
      const std::span<std::byte> bytes = table.page(page.layer, page.number);
      file->read(at, bytes);
      hasher.bytes(bytes);
      at += bytes.size();
    }
    Digest checksum{};
    file->read(at, std::as_writable_bytes(std::span(checksum)));
    return hasher.finish() == checksum ? Got::kWhole : Got::kDamaged;
  } catch (const Error&) {
    return Got::kDamaged;
  }
}

HeldText read_text(const PrefixFolder& folder, const PrefixName& name) {
  try {
    const File file = folder.open(name.text());
    Head head;
    file.read(0, std::as_writable_bytes(std::span(&head, 1)));
    const int count = name.end - name.begin();
    if (head.magic != Head().magic || head.begin != name.begin() || head.end != name.end ||
        head.pictures < 0 || head.pictures > count)
      return {};
    HeldText text;
    text.ids.resize(static_cast<std::size_t>(count));
    file.read(sizeof head, std::as_writable_bytes(std::span(text.ids)));
    std::vector<HeldPicture> pictures(static_cast<std::size_t>(head.pictures));
    file.read(sizeof head + text.ids.size() * sizeof(TokenId),
              std::as_writable_bytes(std::span(pictures)));
    for (const HeldPicture& picture : pictures)
      text.pictures.push_back({picture.begin, picture.count, picture.features});
    return text;
  } catch (const Error&) {
    return {};
  }
}

}  // namespace lapidary
