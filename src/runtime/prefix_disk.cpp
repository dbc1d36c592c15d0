#include "runtime/prefix_disk.h"

#include <algorithm>
#include <map>
#include <new>
#include <utility>

#include "base/format.h"
#include "base/memory.h"
#include "lapidary/error.h"
#include "model/kv_pool.h"

namespace lapidary {

namespace {

/// So many texts are looked at for how far they agree with a new one.
constexpr std::size_t kMostCompared = 64;

Digest kind_of(const KvIdentity& identity) {
  FieldWriter fields;
  identity.write(fields);
  return Hasher().text("beginnings of texts").bytes(fields.written()).number(kMostRewind).finish();
}

int segments_to(int end) { return end / kSegmentPositions; }

}  // namespace

/// The hashes of a text at every end that a name has, and what of it is there.
struct PrefixDisk::Search {
  std::map<int, Digest> hashes;
  int segments = 0;  // From the first on.
  int place = 0;     // The longest that stands on them; 0: none.

  Search(const Digest& kind, const PrefixView& wanted, std::size_t most, const Names& names) {
    const auto size = static_cast<int>(wanted.ids.size());
    for (int end = 0; end <= size; end += kSegmentPositions) hashes[end];
    for (const PrefixName& name : names) {
      if (name.end <= size) hashes[name.end];
    }
    PrefixHash hash(kind, wanted);
    for (auto& [end, digest] : hashes) digest = hash.at(static_cast<std::size_t>(end));
    std::set<int> there;
    for (const PrefixName& name : names) {
      if (name.what == PrefixName::What::kSegment && is_of_this(name)) there.insert(name.end);
    }
    while (there.contains((segments + 1) * kSegmentPositions)) ++segments;
    for (const PrefixName& name : names) {
      if (name.what == PrefixName::What::kPlace && name.end > place && is_of_this(name) &&
          segments_to(name.end) <= segments && static_cast<std::size_t>(name.end) <= most)
        place = name.end;
    }
  }

  bool is_of_this(const PrefixName& name) const {
    const auto found = hashes.find(name.end);
    return found != hashes.end() && hash_digits(found->second) == name.hash &&
           base_digits(hashes.at(name.begin())) == name.base;
  }
};

PrefixDisk::PrefixDisk(const std::string& folder, std::uint64_t most_bytes,
                       const KvIdentity& identity, const Config& config)
    : config_(config),
      page_bytes_(static_cast<std::size_t>(identity.page_bytes)),
      kind_(kind_of(identity)) {
  try {
    folder_.emplace(folder, base_digits(kind_), most_bytes);
  } catch (const Error& error) {
    note_failure(error.what());
  }
}

PrefixDisk::Names PrefixDisk::names(const std::set<std::string>& but) const {
  Names names;
  for (const std::string& text : folder_->names()) {
    if (but.contains(text)) continue;
    if (std::optional<PrefixName> name = PrefixName::parse(text)) names.push_back(std::move(*name));
  }
  return names;
}

PrefixFile PrefixDisk::file(const PrefixView& prefix, PrefixName::What what, int end,
                            const Digest& hash, const Digest& base) const {
  return {kind_,  hash,    {what, end, hash_digits(hash), base_digits(base)},
          prefix, config_, page_bytes_};
}

/// How far the text agrees with those that go on from the last segment's end that anything is known
/// behind.
std::size_t PrefixDisk::common(const Search& search, const PrefixView& wanted,
                               const Names& names) const {
  for (int begin = static_cast<int>(wanted.ids.size()) / kSegmentPositions * kSegmentPositions;
       begin >= 0; begin -= kSegmentPositions) {
    const std::string base = base_digits(search.hashes.at(begin));
    std::vector<PlacedPicture> pictures;
    const PrefixView rest = text_behind(wanted, begin, pictures);
    std::size_t compared = 0, most = 0;
    for (const PrefixName& name : names) {
      if (name.begin() != begin || name.base != base || compared == kMostCompared) continue;
      const HeldText held = read_text(*folder_, name);
      most = std::max(most, common_prefix(rest, held.view(), held.ids.size()));
      ++compared;
    }
    if (compared > 0) return static_cast<std::size_t>(begin) + most;
  }
  return 0;
}

PrefixDisk::Taken PrefixDisk::take(const PrefixView& wanted, std::size_t most, std::size_t least,
                                   PageTable& table, Team& team) {
  Taken taken;
  if (!folder_) return taken;
  for (std::set<std::string> bad;;) {
    const Names names = this->names(bad);
    taken.common = taken.stored = 0;
    if (names.empty()) return taken;
    const Search search(kind_, wanted, most, names);
    taken.common = std::min(most, common(search, wanted, names));
    const auto count = taken.stored = static_cast<std::size_t>(search.place);
    if (count == 0 || count < least) return taken;
    const Digest& end = search.hashes.at(search.place);
    const int segments = segments_to(search.place);
    std::vector<PrefixFile> files;
    files.push_back(file(wanted, PrefixName::What::kPlace, search.place, end,
                         search.hashes.at(segments * kSegmentPositions)));
    for (int i = segments; i > 0; --i) {
      files.push_back(file(wanted, PrefixName::What::kSegment, i * kSegmentPositions,
                           search.hashes.at(i * kSegmentPositions),
                           search.hashes.at((i - 1) * kSegmentPositions)));
    }
    try {
      table.take_pages(search.place);
      if (load(files, table, team, bad)) {
        taken.count = count;
        taken.spoilt = false;
        const std::lock_guard lock(mutex_);
        stats_.read_tokens += count;
        return taken;
      }
    } catch (const std::bad_alloc&) {
      taken.spoilt = true;
      table.clear();
      return taken;
    }
    table.clear();
    taken.spoilt = true;
  }
}

/// A place, and the segments that it stands on from the last to the first. False: one of them is
/// not what it should be, and among `bad` now.
bool PrefixDisk::load(std::span<const PrefixFile> files, PageTable& table, Team& team,
                      std::set<std::string>& bad) {
  std::vector<PrefixFile::Got> got(files.size(), PrefixFile::Got::kAbsent);
  team.run([&](Worker& worker) {
    worker.for_each(static_cast<int>(files.size()), [&](int task) {
      const auto i = static_cast<std::size_t>(task);
      got[i] = files[i].read(*folder_, table);
    });
  });
  bool whole = true;
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (got[i] == PrefixFile::Got::kWhole) continue;
    whole = false;
    const std::string name = files[i].name().text();
    bad.insert(name);
    if (got[i] == PrefixFile::Got::kAbsent) continue;
    folder_->remove(name);
    const std::lock_guard lock(mutex_);
    ++stats_.damaged_files;
  }
  if (whole) {
    for (const PrefixFile& file : files) folder_->touch(file.name().text());
  }
  return whole;
}

void PrefixDisk::write(const StoredPlace& place) noexcept {
  if (!folder_) return;
  try {
    write({place.ids, place.pictures}, place.table);
    folder_->make_room();
  } catch (const Error& error) {
    note_failure(error.what());
  } catch (const std::bad_alloc&) {
    note_failure("no memory to write to the prefix cache");
  }
}

void PrefixDisk::write(const PrefixView& prefix, const PageTable& table) {
  const int end = static_cast<int>(prefix.ids.size());
  std::vector<PrefixFile> files;  // From the first segment on: whoever finds the place finds those.
  PrefixHash hash(kind_, prefix);
  Digest base = hash.at(0);
  for (int i = 1; i <= segments_to(end); ++i) {
    const Digest next = hash.at(static_cast<std::size_t>(i * kSegmentPositions));
    files.push_back(file(prefix, PrefixName::What::kSegment, i * kSegmentPositions, next, base));
    base = next;
  }
  const Digest whole = hash.at(static_cast<std::size_t>(end));
  files.push_back(file(prefix, PrefixName::What::kPlace, end, whole, base));
  std::uint64_t bytes = 0;
  for (const PrefixFile& file : files) bytes += file.bytes();
  if (bytes > folder_->most_bytes()) {
    throw Error(ErrorCode::kMemory,
                format("{} of keys and values are more than the {} that it may take",
                       format_bytes(bytes), format_bytes(folder_->most_bytes())));
  }
  for (const PrefixFile& file : files) {
    if (folder_->has(file.name().text(), file.bytes())) continue;
    file.write(*folder_, table);
    const std::lock_guard lock(mutex_);
    stats_.written_bytes += file.bytes();
  }
  std::for_each(files.rbegin(), files.rend(),
                [&](const PrefixFile& file) { folder_->touch(file.name().text()); });
}

void PrefixDisk::note_failure(const char* problem) noexcept {
  const std::lock_guard lock(mutex_);
  ++stats_.failures;
  try {
    stats_.problem = problem;
  } catch (const std::bad_alloc&) {  // It is counted.
  }
}

PrefixCacheStats PrefixDisk::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

}  // namespace lapidary
