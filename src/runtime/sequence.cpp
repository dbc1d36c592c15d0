#include "runtime/sequence.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <string>

#include "base/boundary.h"
#include "base/cancel.h"
#include "base/format.h"
#include "lapidary/error.h"
#include "runtime/model_impl.h"
#include "runtime/prompt_images.h"
#include "runtime/speculator.h"
#include "text/chat_template.h"

namespace lapidary {

namespace {

static_assert(kMaxDraft + 1 <= HeadQuery::kMostTokens);
static_assert(kMostTogether == Decoder::kMostTogether);
static_assert(kMostTogether <= SessionPlan::kLogitRows);

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

/// Takes back ids that an append added and did not come to compute, however it ends. A chunk that
/// was given up lies where the last row was, so the last id is computed again when it is needed.
struct Sequence::Rollback {
  Sequence& session;
  std::size_t before;
  Rollback(Sequence& s, std::size_t n) : session(s), before(n) {}
  Rollback(const Rollback&) = delete;
  Rollback& operator=(const Rollback&) = delete;
  ~Rollback() {
    const auto done = static_cast<std::size_t>(session.computed);
    session.ids.resize(std::max(before, done));
    session.images_.clear();
    if (session.given_up_ && done > 0 && done == session.ids.size()) --session.computed;
    session.given_up_ = false;
  }
};

Sequence::Sequence(const Model& shared, const SessionOptions& options)
    : model(shared),
      team(options.threads),
      plan(make_plan(model, options, team.threads())),
      decoder(*model.impl().weights, team, plan.context, plan.longest_chunk),
      sampler(model.info().vocabulary),
      logits_(static_cast<std::size_t>(model.info().vocabulary) * SessionPlan::kLogitRows *
              sizeof(float)) {
  ids.reserve(static_cast<std::size_t>(plan.context));
  if (model.vision() != nullptr)
    images_.reserve(static_cast<std::size_t>(plan.context / model.vision()->tokens));
}
Sequence::~Sequence() = default;

void Sequence::check_ids(std::span<const TokenId> new_ids) const {
  const int vocabulary = model.info().vocabulary;
  const TokenId image_token = model.tokenizer().image_token();
  for (std::size_t i = 0; i < new_ids.size(); ++i) {
    if (new_ids[i] >= 0 && (new_ids[i] < vocabulary || new_ids[i] == image_token)) continue;
    throw Error(ErrorCode::kUsage, format("id {} at place {} is outside the vocabulary of {} ids",
                                          new_ids[i], i, vocabulary));
  }
  const std::size_t room = static_cast<std::size_t>(plan.context) - ids.size();
  if (new_ids.size() <= room) return;
  std::string message =
      format("the prompt has {} tokens, but the context holds {}", new_ids.size(), plan.context);
  if (!ids.empty()) message += format(", of which {} are taken", ids.size());
  throw Error(ErrorCode::kContext, message);
}

std::span<float> Sequence::logit_rows(int count) const {
  const std::size_t vocabulary = static_cast<std::size_t>(model.info().vocabulary);
  return {reinterpret_cast<float*>(logits_.data()), vocabulary * static_cast<std::size_t>(count)};
}

// Checks everything before it changes anything. Ends with `new_ids` behind the ids and their images
// placed.
void Sequence::begin_append(std::span<const TokenId> new_ids,
                            std::span<const ImageFeatures> images) {
  check_ids(new_ids);
  place_images(model, new_ids, images, static_cast<int>(ids.size()), images_);
  ids.insert(ids.end(), new_ids.begin(), new_ids.end());
}

// The images of the next chunk, and how many tokens it has.
std::span<const ImageRows> Sequence::next_chunk(int& count) const {
  int end = std::min(computed + plan.chunk, static_cast<int>(ids.size()));
  std::size_t first = 0;
  while (first < images_.size() && images_[first].begin < computed) ++first;
  std::size_t last = first;
  for (; last < images_.size() && images_[last].begin < end; ++last)
    end = std::max(end, images_[last].begin + images_[last].count);
  count = end - computed;
  return std::span(images_).subspan(first, last - first);
}

// Computes the next ids that are not computed, a chunk at most; returns how many. Their logits can
// be asked for, or those of the last of them alone.
int Sequence::forward_chunk(LogitsOf rows, std::size_t done, std::size_t total,
                            const std::atomic<bool>* cancel) {
  const auto interrupt = [&] {
    throw Error(ErrorCode::kInterrupted,
                format("interrupted after {} of {} tokens of the prompt", done, total));
  };
  if (is_set(cancel)) interrupt();
  int count = 0;
  const std::span<const ImageRows> images = next_chunk(count);
  // An image's last token cannot be computed again without the others: see Rollback.
  const auto begin = static_cast<std::size_t>(computed);
  const bool behind_image = begin > 0 && ids[begin - 1] == model.tokenizer().image_token();
  try {
    decoder.forward(std::span(ids).subspan(begin, static_cast<std::size_t>(count)), computed,
                    images, rows == LogitsOf::kLast ? count - 1 : 0,
                    behind_image ? nullptr : cancel);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInterrupted) throw;
    given_up_ = true;
    logits_count_ = best_count_ = 0;
    ahead_ = {};
    interrupt();
  }
  forward_begin_ = computed;
  computed += count;
  logits_count_ = best_count_ = 0;
  ahead_ = {};
  return count;
}

void Sequence::append(std::span<const TokenId> new_ids, std::span<const ImageFeatures> images,
                      const Progress& progress, const std::atomic<bool>* cancel) {
  if (new_ids.empty() && images.empty()) return;
  const ScopedSeconds timer(prefill_seconds);
  const std::size_t before = ids.size();
  const Rollback rollback(*this, before);
  begin_append(new_ids, images);
  std::size_t done = 0;
  while (static_cast<std::size_t>(computed) < ids.size()) {
    forward_chunk(LogitsOf::kLast, done, new_ids.size(), cancel);
    if (speculator != nullptr)
      speculator->follow(std::span(ids).first(static_cast<std::size_t>(computed)));
    done = static_cast<std::size_t>(std::max(computed - static_cast<int>(before), 0));
    if (progress) call_host(progress, done, new_ids.size());
  }
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
  while (static_cast<std::size_t>(computed) < ids.size()) {
    const int first = computed;
    const int rows =
        forward_chunk(LogitsOf::kAll, static_cast<std::size_t>(std::max(first - before, 0)),
                      new_ids.size(), cancel);
    // A drawn id that was left to compute comes in front of the new ones; its logits are not asked
    // for.
    for (int row = std::max(before - first, 0); row < rows; row += SessionPlan::kLogitRows) {
      const int count = std::min(SessionPlan::kLogitRows, rows - row);
      prepare_logits(row, count);
      for (int i = 0; i < count; ++i) call_host(on_logits, first + row + i, row_logits(row + i));
    }
  }
}

std::span<const float> Sequence::logits() {
  if (ids.empty()) return {};
  compute();
  prepare_logits(last_row(), 1);
  return row_logits(last_row());
}

bool Sequence::has_logits(int row) const {
  return row >= logits_first_ && row < logits_first_ + logits_count_;
}

void Sequence::prepare_logits(int first, int count) {
  if (has_logits(first) && has_logits(first + count - 1)) return;
  logits_count_ = 0;
  decoder.logits(first, count, logit_rows(count));
  logits_first_ = first;
  logits_count_ = count;
}

std::span<const float> Sequence::row_logits(int row) const {
  const std::size_t vocabulary = static_cast<std::size_t>(model.info().vocabulary);
  return logit_rows(SessionPlan::kLogitRows)
      .subspan(static_cast<std::size_t>(row - logits_first_) * vocabulary, vocabulary);
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

void Sequence::forward_draft(std::span<const TokenId> draft) {
  forward_ids_[0] = ids.back();
  std::copy(draft.begin(), draft.end(), forward_ids_.begin() + 1);
  decoder.forward(std::span(forward_ids_).first(draft.size() + 1), computed);
  forward_begin_ = computed;
  ++computed;
  logits_count_ = best_count_ = 0;
  ahead_ = std::span(forward_ids_).subspan(1, draft.size());
}

void Sequence::compute(std::span<const TokenId> draft) {
  if (!draft.empty() && needs_forward() && static_cast<std::size_t>(computed) + 1 == ids.size()) {
    forward_draft(draft);
  } else if (!take_ahead()) {
    while (static_cast<std::size_t>(computed) < ids.size())
      forward_chunk(LogitsOf::kLast, 0, 0, nullptr);
  }
}

TokenId Sequence::draw(const SamplingOptions& sampling) {
  compute();
  return draw(last_row(), ids, drawable_ids(model), sampling);
}

TokenId Sequence::draw(int row, std::span<const TokenId> history, std::size_t drawable,
                       const SamplingOptions& sampling) {
  const std::span<const TokenId> recent = history.last(std::min(kPenaltyWindow, history.size()));
  if (!has_logits(row)) {
    const std::optional<HeadQuery> query = sampler.query(drawable, recent, sampling);
    if (query && find_best(row, *query)) {
      const auto best = decoder.best(row - best_first_);
      if (const auto id = sampler.sample_best(best, *query, sampling, history.size())) return *id;
    }
    prepare_logits(row, 1 + static_cast<int>(ahead_.size()));
  }
  return sampler.sample(row_logits(row).first(drawable), recent, sampling, history.size());
}

// Searches the head for row `row`, and for the draft behind it where the answer will do for that as
// well.
bool Sequence::find_best(int row, const HeadQuery& query) {
  const bool same = query.rows == best_query_.rows && query.count == best_query_.count &&
                    query.range == best_query_.range && query.also.empty();
  if (same && row >= best_first_ && row < best_first_ + best_count_) return true;
  const int count = query.also.empty() ? 1 + static_cast<int>(ahead_.size()) : 1;
  best_count_ = 0;
  if (!decoder.best_logits(row, count, query)) return false;
  best_first_ = row;
  best_count_ = query.also.empty() ? count : 0;
  best_query_ = query;
  best_query_.also = {};
  return true;
}

void Sequence::rewind(std::size_t count) {
  if (count >= ids.size()) return;
  ids.resize(count);
  computed = std::min(computed, static_cast<int>(count));
  // The row of the id that is last now may be gone: it is computed anew.
  if (computed > 0 && computed == static_cast<int>(count)) --computed;
  ahead_ = {};
}

void Sequence::add_user(std::span<const ContentPart> parts, std::string_view system,
                        const std::atomic<bool>* cancel) {
  std::vector<TokenId> before = ids;
  before.insert(before.end(), queue_.ids.begin(), queue_.ids.end());
  const Prompt turn =
      user_turn(model.tokenizer(), parts, system, before, model.info().turns(), cancel);
  queue_.ids.reserve(queue_.ids.size() + turn.ids.size());
  queue_.images.reserve(queue_.images.size() + turn.images.size());
  queue_.ids.insert(queue_.ids.end(), turn.ids.begin(), turn.ids.end());
  queue_.images.insert(queue_.images.end(), turn.images.begin(), turn.images.end());
}

GenerateOptions Sequence::reply_options(GenerateOptions options) const {
  std::ranges::move(turn_stops(model.tokenizer(), model.info().turns()),
                    std::back_inserter(options.stop));
  return options;
}

void Sequence::append_queue(const Progress& progress, const std::atomic<bool>* cancel) {
  const std::size_t before = ids.size();
  const auto keep_rest = [&] {
    drop_front(queue_, ids.size() - before, model.tokenizer().image_token());
  };
  try {
    append(queue_.ids, queue_.images, progress, cancel);
    queue_ = {};
  } catch (const HostException&) {
    keep_rest();
    throw;
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kInterrupted) {
      keep_rest();
    } else {
      queue_ = {};
    }
    throw;
  } catch (...) {
    queue_ = {};
    throw;
  }
}

void Sequence::clear() {
  ids.clear();
  queue_ = {};
  computed = 0;
  cached = 0;
  prefill_seconds = 0;
  forward_begin_ = 0;
  logits_count_ = best_count_ = 0;
  ahead_ = {};
  if (speculator != nullptr) speculator->clear();
}

// The decoder's last forward was not of this id: its row is known by its logits alone.
void Sequence::take_computed(TokenId id, std::span<const float> logits) {
  if (logits.data() != logit_rows(1).data())
    std::copy(logits.begin(), logits.end(), logit_rows(1).begin());
  ids.push_back(id);
  forward_begin_ = computed;
  ++computed;
  logits_first_ = 0;
  logits_count_ = 1;
  best_count_ = 0;
  ahead_ = {};
  if (speculator != nullptr) speculator->follow(ids);
}

void Sequence::append_each(std::span<Sequence* const> sequences, std::span<const TokenId> ids) {
  const std::size_t count = sequences.size();
  std::array<Decoder*, kMostTogether> decoders{};
  std::array<int, kMostTogether> positions{};
  for (std::size_t i = 0; i < count; ++i) {
    decoders[i] = &sequences[i]->decoder;
    positions[i] = sequences[i]->computed;
  }
  Sequence& first = *sequences[0];
  const std::span<float> logits = first.logit_rows(static_cast<int>(count));
  first.decoder.forward_together(std::span(decoders).first(count), ids,
                                 std::span(positions).first(count));
  first.decoder.logits(0, static_cast<int>(count), logits);
  const std::size_t vocabulary = logits.size() / count;
  for (std::size_t i = 0; i < count; ++i)
    sequences[i]->take_computed(ids[i], logits.subspan(i * vocabulary, vocabulary));
}

}  // namespace lapidary
