#include "runtime/scoring.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/cancel.h"
#include "base/format.h"
#include "lapidary/error.h"
#include "runtime/log_probabilities.h"
#include "runtime/model_impl.h"

namespace lapidary {

namespace {

/// Pages that a branch of `tokens` tokens behind `position` takes, in pieces of at most `pass`: of
/// its own are the page that the sequence has begun, and all behind it as far as a window sees.
std::int64_t branch_pages(const Config& config, int position, int tokens, int pass) {
  return sequence_pages(config, position % kernels::kPagePositions + tokens,
                        std::min(tokens, pass));
}

constexpr const char* kDoing = "scoring";

/// Tokens that are computed of a continuation.
int computed_of(const std::vector<TokenId>& ids) { return static_cast<int>(ids.size()) - 1; }

}  // namespace

void Scoring::check(const Model& model, std::span<const std::vector<TokenId>> continuations,
                    std::size_t taken, int context) {
  if (continuations.empty()) throw Error(ErrorCode::kUsage, "there is no continuation to score");
  if (continuations.size() > static_cast<std::size_t>(kMostContinuations)) {
    throw Error(ErrorCode::kUsage, format("{} continuations to score: at most {}",
                                          continuations.size(), kMostContinuations));
  }
  const auto vocabulary = static_cast<TokenId>(model.info().vocabulary);
  for (std::size_t i = 0; i < continuations.size(); ++i) {
    const std::vector<TokenId>& ids = continuations[i];
    if (ids.empty()) throw Error(ErrorCode::kUsage, format("continuation {} has no token", i));
    for (const TokenId id : ids) {
      if (id >= 0 && id < vocabulary) continue;
      throw Error(ErrorCode::kUsage,
                  format("id {} of continuation {} is outside the vocabulary of {} ids", id, i,
                         vocabulary));
    }
    if (ids.size() > static_cast<std::size_t>(context) - taken) {
      throw Error(ErrorCode::kContext,
                  format("continuation {} has {} tokens, but the context holds {}, of which {} are "
                         "taken",
                         i, ids.size(), context, taken));
    }
  }
}

Scoring::Pages Scoring::pages(const Config& config,
                              std::span<const std::vector<TokenId>> continuations, int position,
                              int pass) {
  const auto pages_of = [&](const std::vector<TokenId>& ids) {
    return computed_of(ids) == 0 ? 0 : branch_pages(config, position, computed_of(ids), pass);
  };
  Pages all;
  std::int64_t together = 0, tokens = 0;
  std::size_t first = 0;  // Of those that a pass can have together with the last.
  for (const std::vector<TokenId>& ids : continuations) {
    together += pages_of(ids);
    for (tokens += computed_of(ids); tokens > pass && &continuations[first] != &ids; ++first) {
      tokens -= computed_of(continuations[first]);
      together -= pages_of(continuations[first]);
    }
    all.wanted = std::max(all.wanted, together);
    if (computed_of(ids) > pass) all.longest = std::max(all.longest, pages_of(ids));
  }
  return all;
}

Scoring::Scoring(Sequence& sequence, std::span<const std::vector<TokenId>> continuations)
    : sequence_(sequence),
      continuations_(continuations),
      position_(sequence.computed),
      rows_{sequence.last_row().values},
      places_{Place{}},
      scores_(continuations.size()),
      drawn_(continuations.size()) {
  const Tokenizer& tokenizer = sequence_.engine->model.tokenizer();
  for (std::size_t i = 0; i < continuations_.size(); ++i) {
    scores_[i].tokens.resize(continuations_[i].size());
    drawn_[i].resize(continuations_[i].size());
    for (const TokenId id : continuations_[i]) {
      if (id < tokenizer.vocabulary_size()) scores_[i].bytes += tokenizer.piece(id).size();
    }
  }
  sequence_.table.trim(position_);
  promise();
}

Scoring::~Scoring() {
  const Turn turn(*sequence_.engine, Turn::Within{});
  open_.clear();
  if (in_place_) sequence_.table.trim(position_);
  sequence_.engine->pool.give_back(promised_);
}

/// Counts what there is, and has more promised where that makes passes fuller.
void Scoring::promise() {
  KvPool& pool = sequence_.engine->pool;
  const Pages wanted = pages(sequence_.engine->model.impl().config, continuations_, position_,
                             sequence_.engine->plan.pass);
  budget_ = std::max<std::int64_t>(0, sequence_.plan.pages - sequence_.table.pages());
  const std::int64_t more =
      std::clamp<std::int64_t>(wanted.wanted - budget_, 0, pool.capacity() - pool.promised());
  const std::int64_t most = budget_ + more;
  if (wanted.longest > most) {
    throw Error(ErrorCode::kMemory,
                format("a continuation of more than {} tokens needs {} of keys and values beside "
                       "those that are there, but {} are left",
                       sequence_.engine->plan.pass,
                       format_bytes(static_cast<std::uint64_t>(wanted.longest) * pool.page_bytes()),
                       format_bytes(static_cast<std::uint64_t>(most) * pool.page_bytes())));
  }
  pool.promise(more);
  promised_ = more;
  budget_ = most;
}

std::span<const TokenId> Scoring::to_compute(std::size_t index) const {
  return std::span(continuations_[index]).first(continuations_[index].size() - 1);
}

std::int64_t Scoring::pages_of(std::size_t index) const {
  return branch_pages(sequence_.engine->model.impl().config, position_,
                      static_cast<int>(to_compute(index).size()), sequence_.engine->plan.pass);
}

/// Opens the next continuation, of which `most` tokens can be computed in this pass.
bool Scoring::open_next(int most) {
  while (next_ < continuations_.size() && to_compute(next_).empty()) ++next_;
  if (next_ == continuations_.size() || in_place_) return false;
  const std::int64_t pages = pages_of(next_);
  if (pages <= budget_ - held_) {
    open_.push_back({next_, sequence_.table, pages});
    held_ += pages;
  } else if (open_.empty() && static_cast<int>(to_compute(next_).size()) <= most) {
    open_.push_back({next_, std::nullopt, 0});
    in_place_ = true;
    sequence_.forget_ahead();
  } else {
    return false;
  }
  ++next_;
  return true;
}

void Scoring::add_piece(Branch& branch, int most, std::vector<Piece>& pieces) {
  const std::span<const TokenId> rest = to_compute(branch.index).subspan(branch.computed);
  branch.in_pass = std::min(rest.size(), static_cast<std::size_t>(most));
  pieces.push_back({branch.own ? &*branch.own : &sequence_.table, rest.first(branch.in_pass),
                    position_ + static_cast<int>(branch.computed)});
}

void Scoring::add_pieces(int most, std::vector<Piece>& pieces) {
  for (Branch& branch : open_) {
    if (most == 0) return;
    add_piece(branch, most, pieces);
    most -= static_cast<int>(branch.in_pass);
  }
  while (most > 0 && open_next(most)) {
    add_piece(open_.back(), most, pieces);
    most -= static_cast<int>(open_.back().in_pass);
  }
}

int Scoring::end_pass(int row) {
  const std::size_t before = rows_.size();
  for (Branch& branch : open_) {
    for (; branch.in_pass > 0; --branch.in_pass) {
      rows_.push_back(sequence_.engine->decoder.row(row++));
      places_.push_back({branch.index, ++branch.computed});
    }
  }
  return static_cast<int>(rows_.size() - before);
}

void Scoring::note(const Place& place, const LogSoftmax& logprobs, TokenId drawn) {
  const TokenId id = continuations_[place.continuation][place.token];
  scores_[place.continuation].tokens[place.token] = logprobs[id];
  drawn_[place.continuation][place.token] = id == drawn ? 1 : 0;
}

void Scoring::take(std::size_t i, std::span<const float> logits) {
  const LogSoftmax logprobs(logits);
  const TokenId drawn = most_probable(logits.first(drawable_ids(sequence_.engine->model)));
  if (places_[i].token > 0) return note(places_[i], logprobs, drawn);
  for (std::size_t k = 0; k < continuations_.size(); ++k) note({k, 0}, logprobs, drawn);
}

void Scoring::end_rows() {
  rows_.clear();
  places_.clear();
  std::erase_if(open_, [&](const Branch& branch) {
    const bool done = branch.computed == to_compute(branch.index).size();
    if (done) held_ -= branch.pages;
    return done;
  });
  if (in_place_ && open_.empty()) {
    sequence_.table.trim(position_);
    in_place_ = false;
  }
  while (next_ < continuations_.size() && to_compute(next_).empty()) ++next_;
  if (!done()) return;
  for (std::size_t k = 0; k < scores_.size(); ++k) {
    Score& score = scores_[k];
    score.sum = std::accumulate(score.tokens.begin(), score.tokens.end(), 0.0);
    score.greedy = std::ranges::all_of(drawn_[k], [](char drawn) { return drawn != 0; });
  }
}

namespace {

void forward(EngineCore& engine, std::span<const Piece> pieces, const std::atomic<bool>* cancel) {
  try {
    engine.forward(pieces, cancel);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kInterrupted) check_cancel(cancel, kDoing);
    throw;
  }
}

}  // namespace

std::vector<Score> score(Sequence& sequence, std::span<const std::vector<TokenId>> continuations,
                         const std::atomic<bool>* cancel) {
  if (sequence.ids.empty())
    throw Error(ErrorCode::kUsage, "nothing to continue: the session holds no token");
  Scoring::check(sequence.engine->model, continuations, sequence.ids.size(), sequence.plan.context);
  check_cancel(cancel, kDoing);
  std::optional<Scoring> scoring;
  std::vector<Piece> pieces;
  do {
    const Turn turn(*sequence.engine);
    if (!scoring) {
      sequence.compute_in_turn();
      scoring.emplace(sequence, continuations);
    }
    pieces.clear();
    scoring->add_pieces(sequence.engine->plan.pass, pieces);
    if (!pieces.empty()) forward(*sequence.engine, pieces, cancel);
    scoring->end_pass(0);
    use_logits(
        *sequence.engine, scoring->rows(),
        [&](std::size_t i, std::span<const float> logits) { scoring->take(i, logits); }, cancel);
    scoring->end_rows();
  } while (!scoring->done());
  return scoring->scores();
}

}  // namespace lapidary
