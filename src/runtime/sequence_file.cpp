// A sequence in a file and back (docs/decisions/0031-saved-sessions.md).
#include <algorithm>
#include <cstring>
#include <memory>
#include <set>
#include <utility>

#include "base/cancel.h"
#include "base/format.h"
#include "lapidary/error.h"
#include "runtime/kv_file.h"
#include "runtime/kv_identity.h"
#include "runtime/model_impl.h"
#include "runtime/saved_tokens.h"
#include "runtime/sequence.h"

namespace lapidary {

namespace {

constexpr std::uint64_t kMostStateBytes = std::uint64_t{1} << 28;  // Of section "state".
constexpr int kMostPages = 1 << 29;                                // Of one section.

void write_row(FieldWriter& out, std::span<const float> row) {
  out.number(static_cast<std::uint8_t>(row.empty() ? 0 : 1));
  out.bytes(std::as_bytes(row));
}

std::vector<float> read_row(FieldReader& in, std::size_t width) {
  std::vector<float> row(in.number<std::uint8_t>() == 0 ? 0 : width);
  const ConstBytes bytes = in.bytes(row.size() * sizeof(float));
  if (!row.empty()) std::memcpy(row.data(), bytes.data(), bytes.size());
  return row;
}

SnapshotKind read_kind(FieldReader& in) {
  switch (in.number<std::uint8_t>()) {
    case 0:
      return SnapshotKind::kInterval;
    case 1:
      return SnapshotKind::kTurn;
    case 2:
      return SnapshotKind::kPinned;
    default:
      in.damaged("a snapshot is of an unknown kind");
  }
}

std::uint8_t number_of(SnapshotKind kind) {
  switch (kind) {
    case SnapshotKind::kInterval:
      return 0;
    case SnapshotKind::kTurn:
      return 1;
    case SnapshotKind::kPinned:
      return 2;
  }
  return 0;
}

std::size_t pages_of(const PageTable::Layout& layout) {
  std::size_t pages = 0;
  for (const PageTable::Layer& layer : layout.layers) pages += layer.pages.size();
  return pages;
}

}  // namespace

/// Section "state": what identity its keys and values have; how many ids are computed and the
/// hidden row of the last of these; how many pages section "pages" has, the table's, and section
/// "windows", those that snapshots alone have; the table; the snapshots. Their pages are numbered
/// through both sections.
struct Sequence::Saved {
  struct Snapshot {
    int position;
    SnapshotKind kind;
    std::vector<float> row;
    PageTable::Layout windows;
  };

  int computed = 0;
  std::vector<float> row;
  std::uint32_t pages = 0;
  std::uint32_t window_pages = 0;
  PageTable::Layout table;
  std::vector<Snapshot> snapshots;

  /// The numbers of the pages that snapshots have.
  std::set<PageId> in_windows() const {
    std::set<PageId> numbers;
    for (const Snapshot& snapshot : snapshots) {
      for (const PageTable::Layer& layer : snapshot.windows.layers)
        numbers.insert(layer.pages.begin(), layer.pages.end());
    }
    return numbers;
  }
};

/// Leaves an empty sequence behind what could not be taken whole.
struct Sequence::Whole {
  Sequence& sequence;
  bool done = false;
  explicit Whole(Sequence& s) : sequence(s) {}
  Whole(const Whole&) = delete;
  Whole& operator=(const Whole&) = delete;
  ~Whole() {
    if (!done) sequence.clear();
  }
};

void Sequence::save(const std::string& path, std::string_view note,
                    const std::atomic<bool>* cancel) {
  remove_abandoned(path);
  CheckedWriter out(path, kSavedSession);
  write_tokens(out, engine->model, ids, images_, features_, note, cancel);
  {
    const Turn turn(*engine);
    write_state(out, cancel);
  }
  check_cancel(cancel, "writing a file");
  out.commit(Outlives::kMachine);
}

void Sequence::write_state(CheckedWriter& out, const std::atomic<bool>* cancel) const {
  const auto width = static_cast<std::size_t>(engine->model.info().width);
  PageNumbers numbers;
  FieldWriter tables;
  write_table(tables, table, computed, false, numbers);
  const std::size_t own = numbers.pages().size();
  tables.number(static_cast<std::uint32_t>(snapshots.all().size()));
  for (const Snapshots::Snapshot& snapshot : snapshots.all()) {
    tables.number(static_cast<std::uint32_t>(snapshot.position));
    tables.number(number_of(snapshot.kind));
    write_row(tables, snapshot.row);
    write_table(tables, snapshot.windows, snapshot.position, true, numbers);
  }
  FieldWriter state;
  KvIdentity(engine->model.impl().fingerprint, engine->pool).write(state);
  state.number(static_cast<std::uint32_t>(computed));
  const bool has_row = computed > 0 && this->has_row(computed - 1);
  write_row(state, has_row ? std::span(row(computed - 1).values, width) : std::span<const float>());
  state.number(static_cast<std::uint32_t>(own));
  state.number(static_cast<std::uint32_t>(numbers.pages().size() - own));
  state.bytes(tables.written());
  out.section("state", state.written());
  write_pages(out, "pages", engine->pool, numbers.pages().first(own), cancel);
  write_pages(out, "windows", engine->pool, numbers.pages().subspan(own), cancel);
}

/// Reads and checks section "state" for ids that were read.
Sequence::Saved Sequence::read_state(const CheckedReader& file, const SavedTokens& tokens) const {
  const std::vector<std::byte> section = file.read("state", kMostStateBytes);
  FieldReader in(section, file, "what is said of keys and values");
  const KvIdentity own(engine->model.impl().fingerprint, engine->pool);
  if (const std::string difference = own.difference(KvIdentity::read(in)); !difference.empty())
    throw Error(ErrorCode::kFile, file.path() + ": keys and values are " + difference);
  const Config& config = engine->model.impl().config;
  const auto width = static_cast<std::size_t>(engine->model.info().width);
  const int end = static_cast<int>(tokens.ids.size());
  Saved out;
  out.computed = in.number_to(end);
  out.row = read_row(in, width);
  if (out.computed == 0 ? !out.row.empty() : out.computed == end && out.row.empty())
    in.damaged("it has a hidden row of no id, or none of its last");
  out.pages = static_cast<std::uint32_t>(in.number_to(kMostPages));
  out.window_pages = static_cast<std::uint32_t>(in.number_to(kMostPages));
  out.table = read_table(in, config, out.computed, end, false, out.pages);
  std::size_t in_windows = 0;
  out.snapshots.resize(static_cast<std::size_t>(in.number_to(end)));
  int before = 0;
  for (Saved::Snapshot& snapshot : out.snapshots) {
    snapshot.position = in.number_to(end);
    snapshot.kind = read_kind(in);
    snapshot.row = read_row(in, width);
    snapshot.windows =
        read_table(in, config, snapshot.position, end, true, out.pages + out.window_pages);
    if (snapshot.position <= before || tokens.cuts_picture(snapshot.position))
      in.damaged("a snapshot is where none can be");
    before = snapshot.position;
    in_windows += pages_of(snapshot.windows);
  }
  in.finish();
  if (tokens.cuts_picture(out.computed)) in.damaged("it ends within a picture");
  if (out.pages > pages_of(out.table) || out.window_pages > in_windows)
    in.damaged("it has pages that nothing refers to");
  return out;
}

/// Drops the snapshots that there is no room for.
void Sequence::thin(Saved& saved) const {
  const std::int64_t room = engine->pool.capacity() - engine->pool.used();
  while (!saved.snapshots.empty()) {
    const std::set<PageId> numbers = saved.in_windows();
    const auto alone =
        std::distance(numbers.lower_bound(static_cast<PageId>(saved.pages)), numbers.end());
    if (static_cast<std::int64_t>(numbers.size()) <= snapshots.most_pages() && alone <= room)
      return;
    saved.snapshots.erase(least_missed(saved.snapshots.begin(), saved.snapshots.end()));
  }
}

void Sequence::take_saved(const CheckedReader& file, const SavedTokens& tokens,
                          const std::atomic<bool>* cancel) {
  file.check_whole();
  Saved saved = read_state(file, tokens);
  if (!ids.empty()) {  // Its pages may be needed, so it goes first: not for a file that is damaged.
    file.check("pages", cancel);
    file.check("windows", cancel);
  }
  clear();
  Whole whole(*this);
  FreshPages fresh(engine->pool);
  fresh.read(file, "pages", saved.pages, cancel);
  thin(saved);
  const auto wanted = std::make_unique<bool[]>(saved.window_pages);
  for (const PageId number : saved.in_windows()) {
    if (static_cast<std::uint32_t>(number) >= saved.pages)
      wanted[static_cast<std::uint32_t>(number) - saved.pages] = true;
  }
  fresh.read(file, "windows", {wanted.get(), saved.window_pages}, cancel);
  images_ = tokens.images;
  features_ = tokens.features;
  for (std::size_t i = 0; i < images_.size(); ++i)
    pictures_.push_back(placed(images_[i], features_[i]));
  table.take(fresh.numbered(std::move(saved.table)));
  for (Saved::Snapshot& snapshot : saved.snapshots) {
    PageTable windows(engine->pool, engine->model.impl().config, 0, 0);
    windows.take(fresh.numbered(std::move(snapshot.windows)));
    if (!windows.reaches_back(snapshot.position)) continue;
    snapshots.put({snapshot.position, snapshot.kind, std::move(windows), std::move(snapshot.row)});
  }
  ids.assign(tokens.ids.begin(), tokens.ids.end());
  computed = cached = saved.computed;
  if (!saved.row.empty()) take_row(saved.row, computed);
  whole.done = true;
}

Loaded Sequence::load(const std::string& path, IfUnusable otherwise, const Progress& progress,
                      const std::atomic<bool>* cancel) {
  const CheckedReader file(path, kSavedSession);
  SavedTokens tokens = SavedTokens::read(file, engine->model, plan.context, cancel);
  try {
    const Turn turn(*engine);
    take_saved(file, tokens, cancel);
    return {std::move(tokens.note), 0};
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kFile || otherwise == IfUnusable::kRefuse) throw;
  }
  if (!tokens.same_vision) {
    throw Error(ErrorCode::kFile,
                path +
                    ": keys and values cannot be used, and its pictures' features are of another "
                    "vision model");
  }
  clear();
  Whole whole(*this);
  append(tokens.ids, tokens.features, progress, cancel);
  whole.done = true;
  return {std::move(tokens.note), static_cast<int>(ids.size())};
}

}  // namespace lapidary
