#include "runtime/sequence.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>

#include "base/boundary.h"
#include "base/cancel.h"
#include "base/format.h"
#include "base/memory.h"
#include "lapidary/error.h"
#include "runtime/model_impl.h"
#include "runtime/prompt_images.h"
#include "runtime/speculator.h"

namespace lapidary {

namespace {

static_assert(kMaxDraft + 1 <= HeadQuery::kMostTokens);
static_assert(kMaxDraft + 1 <= kMostRewind);

Digest digest_of(const ImageFeatures& features) {
  return Hasher().bytes(std::as_bytes(std::span(*features.values))).finish();
}

/// Adds the seconds of its scope to `sum`, also when the scope is left by an exception.
class ScopedSeconds {
 public:
  explicit ScopedSeconds(double& sum) : sum_(sum) {}
  ScopedSeconds(const ScopedSeconds&) = delete;
  ScopedSeconds& operator=(const ScopedSeconds&) = delete;
  ~ScopedSeconds() {
    sum_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  double& sum_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

/// Takes back ids that an append added and did not come to compute, however it ends.
struct Sequence::Rollback {
  Sequence& session;
  std::size_t before;
  Rollback(Sequence& s, std::size_t n) : session(s), before(n) {}
  Rollback(const Rollback&) = delete;
  Rollback& operator=(const Rollback&) = delete;
  ~Rollback() {
    session.ids.resize(std::max(before, static_cast<std::size_t>(session.computed)));
    session.end_append();
  }
};

Sequence::Sequence(std::shared_ptr<EngineCore> core, const SessionPlan& settled)
    : engine(std::move(core)),
      plan(settled),
      table(engine->pool, engine->model.impl().config, plan.context, plan.longest_chunk),
      snapshots(plan.snapshot_pages),
      hidden_(static_cast<std::size_t>(engine->model.info().width)) {
  ids.reserve(static_cast<std::size_t>(plan.context));
  if (const VisionInfo* vision = engine->model.vision()) {
    const auto most = static_cast<std::size_t>(plan.context / vision->tokens);
    images_.reserve(most);
    features_.reserve(most);
    pictures_.reserve(most);
  }
  const Turn turn(*engine);
  engine->sequences.reserve(engine->sequences.size() + 1);
  if (!engine->pool.promise(plan.pages)) {
    const auto promised = static_cast<std::uint64_t>(engine->pool.promised());
    throw Error(ErrorCode::kMemory,
                format("a context of {} tokens needs {} of keys and values, but {} of the engine's "
                       "{} are promised already",
                       plan.context, format_bytes(plan.kv_bytes),
                       format_bytes(promised * engine->pool.page_bytes()),
                       format_bytes(engine->plan.kv_bytes)));
  }
  engine->sequences.push_back(this);
}

Sequence::Sequence(const Model& model, const SessionOptions& options)
    : Sequence(make_own(model, options)) {}

Sequence::Own Sequence::make_own(const Model& model, const SessionOptions& options) {
  const int threads = checked_threads(options.threads);
  const OwnPlan plan = make_plan(model, options, threads);
  return {std::make_shared<EngineCore>(model, plan.engine, threads), plan.session};
}

Sequence::~Sequence() {
  clear();
  const Turn turn(*engine, Turn::Within{});
  engine->pool.give_back(plan.pages);
  std::erase(engine->sequences, this);
}

void Sequence::check_ids(const Model& model, std::span<const TokenId> new_ids) {
  const int vocabulary = model.info().vocabulary;
  const TokenId image_token = model.tokenizer().image_token();
  for (std::size_t i = 0; i < new_ids.size(); ++i) {
    if (new_ids[i] >= 0 && (new_ids[i] < vocabulary || new_ids[i] == image_token)) continue;
    throw Error(ErrorCode::kUsage, format("id {} at place {} is outside the vocabulary of {} ids",
                                          new_ids[i], i, vocabulary));
  }
}

void Sequence::check_ids(std::span<const TokenId> new_ids) const {
  check_ids(engine->model, new_ids);
  const std::size_t room = static_cast<std::size_t>(plan.context) - ids.size();
  if (new_ids.size() <= room) return;
  std::string message =
      format("the prompt has {} tokens, but the context holds {}", new_ids.size(), plan.context);
  if (!ids.empty()) message += format(", of which {} are taken", ids.size());
  throw Error(ErrorCode::kContext, message);
}

PlacedPicture Sequence::placed(const ImageRows& rows, const ImageFeatures& features) const {
  return {rows.begin, rows.count, engine->shares() ? digest_of(features) : Digest{}};
}

// Checks everything before it changes anything. Ends with `new_ids` behind the ids and their images
// placed.
void Sequence::begin_append(std::span<const TokenId> new_ids,
                            std::span<const ImageFeatures> images) {
  check_ids(new_ids);
  const std::size_t before = images_.size();
  try {
    place_images(engine->model, new_ids, images, static_cast<int>(ids.size()), images_);
  } catch (...) {
    images_.resize(before);
    throw;
  }
  for (std::size_t i = 0; i < images.size(); ++i) {
    const ImageRows& rows = images_[before + i];
    features_.push_back(images[i]);
    pictures_.push_back(placed(rows, images[i]));
  }
  ids.insert(ids.end(), new_ids.begin(), new_ids.end());
}

void Sequence::begin(std::span<const TokenId> new_ids, std::span<const ImageFeatures> images,
                     bool afresh) {
  begin_append(new_ids, images);
  if (!afresh) reuse();
}

/// The images of a piece that ends at `end`, or behind the image that it would cut.
std::span<const ImageRows> Sequence::images_to(int& end) const {
  std::size_t first = 0;
  while (first < images_.size() && images_[first].begin < computed) ++first;
  std::size_t last = first;
  for (; last < images_.size() && images_[last].begin < end; ++last)
    end = std::max(end, images_[last].begin + images_[last].count);
  return std::span(images_).subspan(first, last - first);
}

Piece Sequence::next_piece(int most) {
  int end = std::min(computed + std::min(plan.chunk, most), static_cast<int>(ids.size()));
  for (const std::vector<int>* places : {&keep_at_, &store_at_}) {
    for (const int place : *places) {
      if (place > computed) end = std::min(end, place);
    }
  }
  const std::span<const ImageRows> images = images_to(end);
  const auto begin = static_cast<std::size_t>(computed);
  ahead_ = {};
  return {&table, std::span(ids).subspan(begin, static_cast<std::size_t>(end) - begin), computed,
          images, end - computed - 1};
}

void Sequence::end_piece(const Piece& piece, const Decoder& decoder, int row) {
  const int count = static_cast<int>(piece.ids.size()) - piece.first_row;
  take_rows(decoder, row, count, piece.position + piece.first_row);
  computed = piece.position + static_cast<int>(piece.ids.size());
  if (std::erase(keep_at_, computed) > 0) engine->kept.keep(computed_prefix(), table);
  if (std::erase(store_at_, computed) > 0) engine->store(computed_prefix(), table);
  if (computed >= snapshots.last() + Snapshots::kInterval) take_snapshot(SnapshotKind::kInterval);
}

void Sequence::take_computed(const Piece& piece, const Decoder& decoder, int row) {
  ids.insert(ids.end(), piece.ids.begin(), piece.ids.end());
  ahead_ = {};
  end_piece(piece, decoder, row);
  if (speculator != nullptr) speculator->follow(ids);
}

/// Copies rows of positions [position, position + count) that were computed, as many of the last
/// as there is room for.
void Sequence::take_rows(const Decoder& decoder, int row, int count, int position) {
  const auto width = static_cast<std::size_t>(engine->model.info().width);
  const int keep = std::min(count, static_cast<int>(hidden_.size() / width));
  for (int i = 0; i < keep; ++i) {
    std::copy_n(decoder.row(row + count - keep + i), width,
                hidden_.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(i) * width));
  }
  hidden_begin_ = position + count - keep;
  hidden_count_ = keep;
  hidden_number_ = number_rows(keep);
}

bool Sequence::has_row(int position) const {
  return position >= hidden_begin_ && position < hidden_begin_ + hidden_count_;
}

HiddenRow Sequence::row(int position) const {
  const auto i = static_cast<std::size_t>(position - hidden_begin_);
  return {hidden_.data() + i * static_cast<std::size_t>(engine->model.info().width),
          hidden_number_ + i};
}

/// Those of `position` and of the draft behind it.
std::span<const HiddenRow> Sequence::rows_from(int position) {
  const std::size_t count = 1 + ahead_.size();
  for (std::size_t i = 0; i < count; ++i) wanted_[i] = row(position + static_cast<int>(i));
  return std::span(wanted_).first(count);
}

// Computes the next ids that are not computed, a chunk at most; returns how many. In turn.
int Sequence::forward_piece(bool all_rows, std::size_t done, std::size_t total,
                            const std::atomic<bool>* cancel) {
  const auto interrupt = [&] {
    throw Error(ErrorCode::kInterrupted,
                format("interrupted after {} of {} tokens of the prompt", done, total));
  };
  if (is_set(cancel)) interrupt();
  Piece piece = next_piece(plan.chunk);
  if (all_rows) piece.first_row = 0;
  try {
    engine->forward({&piece, 1}, cancel);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInterrupted) throw;
    interrupt();
  }
  end_piece(piece, engine->decoder, 0);
  return static_cast<int>(piece.ids.size());
}

void Sequence::append(std::span<const TokenId> new_ids, std::span<const ImageFeatures> images,
                      const Progress& progress, const std::atomic<bool>* cancel) {
  if (new_ids.empty() && images.empty()) return;
  const ScopedSeconds timer(prefill_seconds);
  const std::size_t before = ids.size();
  const Rollback rollback(*this, before);
  begin_append(new_ids, images);
  engine->write_places();  // What was appended before and not answered by a generation.
  {
    const Turn turn(*engine);
    take_snapshot(SnapshotKind::kTurn);
    reuse();
    if (engine->plan.reuse) keep_at_.push_back(static_cast<int>(ids.size()));
    store_before_end();
  }
  std::size_t done = 0;
  while (static_cast<std::size_t>(computed) < ids.size()) {
    {
      const Turn turn(*engine);
      forward_piece(false, done, new_ids.size(), cancel);
    }
    if (speculator != nullptr)
      speculator->follow(std::span(ids).first(static_cast<std::size_t>(computed)));
    done = static_cast<std::size_t>(std::max(computed - static_cast<int>(before), 0));
    if (progress) call_host(progress, done, new_ids.size());
  }
  const Turn turn(*engine);
  store_end(kWorthWriting);
  take_snapshot(SnapshotKind::kTurn);
}

void Sequence::append_with_logits(std::span<const TokenId> new_ids,
                                  std::span<const ImageFeatures> images,
                                  const std::function<void(int, std::span<const float>)>& on_logits,
                                  const std::atomic<bool>* cancel) {
  if (!on_logits) throw Error(ErrorCode::kUsage, "there is no function to hand the logits to");
  const ScopedSeconds timer(prefill_seconds);
  const int before = static_cast<int>(ids.size());
  const Rollback rollback(*this, ids.size());
  begin_append(new_ids, images);
  const Turn turn(*engine);
  std::vector<HiddenRow> rows;
  const int most = engine->logits.most_rows();
  rows.reserve(static_cast<std::size_t>(most));
  while (static_cast<std::size_t>(computed) < ids.size()) {
    const int first = computed;
    const int count = forward_piece(true, static_cast<std::size_t>(std::max(first - before, 0)),
                                    new_ids.size(), cancel);
    // A drawn id that was left to compute comes in front of the new ones; its logits are not asked
    // for.
    for (int row = std::max(before - first, 0); row < count; row += most) {
      const int end = std::min(row + most, count);
      const std::uint64_t number = number_rows(end - row);
      rows.clear();
      for (int i = row; i < end; ++i)
        rows.push_back({engine->decoder.row(i), number + static_cast<std::uint64_t>(i - row)});
      engine->logits.compute(rows);
      for (int i = row; i < end; ++i) {
        call_host(on_logits, first + i,
                  engine->logits.all(rows[static_cast<std::size_t>(i - row)].number));
      }
    }
  }
}

std::span<const float> Sequence::logits() {
  if (ids.empty()) return {};
  const Turn turn(*engine);
  compute_in_turn();
  const HiddenRow last = last_row();
  engine->logits.compute({&last, 1});
  return engine->logits.all(last.number);
}

bool Sequence::needs_forward() const {
  const std::size_t done = static_cast<std::size_t>(computed);
  if (done == ids.size()) return false;
  return done + 1 != ids.size() || ahead_.empty() || ahead_.front() != ids.back();
}

// The last id is computed already where it is the one that the draft foresaw.
bool Sequence::take_ahead() {
  if (static_cast<std::size_t>(computed) == ids.size() || needs_forward()) return false;
  ++computed;
  ahead_ = ahead_.subspan(1);
  return true;
}

void Sequence::allow_drafts() {
  hidden_.resize(static_cast<std::size_t>(engine->model.info().width) * (kMaxDraft + 1));
}

void Sequence::forward_draft(std::span<const TokenId> draft) {
  if (computed >= snapshots.last() + Snapshots::kInterval) take_snapshot(SnapshotKind::kInterval);
  forward_ids_[0] = ids.back();
  std::copy(draft.begin(), draft.end(), forward_ids_.begin() + 1);
  ahead_ = {};
  const Piece piece{&table, std::span(forward_ids_).first(draft.size() + 1), computed};
  engine->forward({&piece, 1}, nullptr);
  take_rows(engine->decoder, 0, static_cast<int>(piece.ids.size()), computed);
  ++computed;
  ahead_ = std::span(forward_ids_).subspan(1, draft.size());
}

void Sequence::compute(std::span<const TokenId> draft) {
  const Turn turn(*engine);
  compute_in_turn(draft);
}

void Sequence::compute_in_turn(std::span<const TokenId> draft) {
  if (!draft.empty() && needs_forward() && static_cast<std::size_t>(computed) + 1 == ids.size()) {
    forward_draft(draft);
  } else if (!take_ahead()) {
    while (static_cast<std::size_t>(computed) < ids.size()) forward_piece(false, 0, 0, nullptr);
  }
}

TokenId Sequence::draw(const SamplingOptions& sampling) {
  return draw(ids, drawable_ids(engine->model), sampling);
}

TokenId Sequence::draw(std::span<const TokenId> history, std::size_t drawable,
                       const SamplingOptions& sampling) {
  const Turn turn(*engine);
  return draw_in_turn(history, drawable, sampling);
}

TokenId Sequence::draw_in_turn(std::span<const TokenId> history, std::size_t drawable,
                               const SamplingOptions& sampling) {
  compute_in_turn();
  const HiddenRow last = last_row();
  RowLogits& logits = engine->logits;
  Sampler& sampler = engine->samplers.front();
  if (!logits.has(last.number)) {
    const std::span<const HiddenRow> rows = rows_from(computed - 1);
    const std::optional<HeadQuery> query = sampler.query(drawable, history, sampling);
    if (query && logits.find_best(rows, *query)) {
      const auto best = logits.best(last.number);
      if (const auto id = sampler.sample_best(best, *query, sampling, history.size())) return *id;
    }
    logits.compute(rows);
  }
  return sampler.sample(logits.all(last.number).first(drawable), history, sampling, history.size());
}

/// Without pictures beyond the ids. Where nothing but what was taken for reuse is there, the last
/// id has no row, and is computed again when it is needed; of a picture, all of it is given up.
void Sequence::end_append() {
  drop_pictures(ids.size());
  keep_at_.clear();
  store_at_.clear();
  if (computed == 0 || static_cast<std::size_t>(computed) < ids.size() || has_row(computed - 1))
    return;
  while (!pictures_.empty() && pictures_.back().begin + pictures_.back().count == computed) {
    computed = pictures_.back().begin;
    ids.resize(static_cast<std::size_t>(computed));
    drop_pictures(ids.size());
  }
  if (computed > 0) --computed;
}

void Sequence::clear() {
  const Turn turn(*engine, Turn::Within{});
  try {
    if (engine->plan.reuse && keeps && computed > 0) engine->kept.keep(computed_prefix(), table);
  } catch (const std::bad_alloc&) {  // A help, no promise.
  }
  table.clear();
  snapshots.clear();
  ids.clear();
  drop_pictures(0);
  keep_at_.clear();
  store_at_.clear();
  stored_ = 0;
  computed = cached = 0;
  prefill_seconds = 0;
  hidden_count_ = 0;
  ahead_ = {};
  if (speculator != nullptr) speculator->clear();
}

}  // namespace lapidary
