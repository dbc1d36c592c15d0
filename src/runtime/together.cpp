#include <algorithm>
#include <functional>
#include <optional>
#include <vector>

#include "base/boundary.h"
#include "base/format.h"
#include "lapidary/error.h"
#include "runtime/model_impl.h"
#include "runtime/session_impl.h"

namespace lapidary {

namespace {

static_assert(kMostTogether <= kHeadRows);

void check(std::span<Sequence* const> sequences, std::span<const TokenId> ids) {
  const Model& model = sequences[0]->engine->model;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    if (&sequences[i]->engine->model.impl() != &model.impl())
      throw Error(ErrorCode::kUsage, "sessions of different models cannot go on together");
    sequences[i]->check_ids(ids.subspan(i, 1));
    if (ids[i] >= model.info().vocabulary)
      throw Error(ErrorCode::kUsage, "an image cannot go on together with other sessions");
  }
}

void check_count(std::size_t sessions, std::size_t ids, int most) {
  if (sessions == 0 || sessions != ids) {
    throw Error(ErrorCode::kUsage, format("{} ids for {} sessions", ids, sessions));
  }
  if (sessions > static_cast<std::size_t>(most)) {
    throw Error(ErrorCode::kUsage, format("{} sessions together: at most {}", sessions, most));
  }
}

void check_apart(std::span<Session* const> sessions) {
  for (auto session = sessions.begin(); session != sessions.end(); ++session) {
    if (*session == nullptr) throw_empty("a session");
    if (std::find(sessions.begin(), session, *session) != session)
      throw Error(ErrorCode::kUsage, "a session cannot go on together with itself");
  }
}

/// Turns of all engines of `sequences`, in an order that is the same for everyone.
std::vector<std::optional<Turn>> take_turns(std::span<Sequence* const> sequences) {
  std::vector<EngineCore*> engines;
  for (const Sequence* sequence : sequences) engines.push_back(sequence->engine.get());
  std::sort(engines.begin(), engines.end(), std::less<>());
  engines.erase(std::unique(engines.begin(), engines.end()), engines.end());
  std::vector<std::optional<Turn>> turns(engines.size());
  for (std::size_t i = 0; i < engines.size(); ++i) turns[i].emplace(*engines[i]);
  return turns;
}

/// Computes the logits of all last rows with the first one's engine, and leaves each where its
/// session looks for it. The first rows come last, and stay.
void compute_logits(std::span<Sequence* const> sequences) {
  RowLogits& logits = sequences[0]->engine->logits;
  const auto most = static_cast<std::size_t>(logits.most_rows());
  std::vector<HiddenRow> rows;
  for (std::size_t begin = (sequences.size() - 1) / most * most;; begin -= most) {
    const auto group = sequences.subspan(begin, std::min(most, sequences.size() - begin));
    rows.clear();
    for (const Sequence* sequence : group) rows.push_back(sequence->last_row());
    logits.compute(rows);
    for (std::size_t i = 0; i < group.size(); ++i) {
      RowLogits& own = group[i]->engine->logits;
      if (&own != &logits) own.take(rows[i].number, logits.all(rows[i].number));
    }
    if (begin == 0) return;
  }
}

/// Adds ids[i] to sequences[i] in one pass of the first one's engine.
void append_each(std::span<Sequence* const> sequences, std::span<const TokenId> ids) {
  for (Sequence* sequence : sequences) sequence->compute();
  const std::vector<std::optional<Turn>> turns = take_turns(sequences);
  EngineCore& engine = *sequences[0]->engine;
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < sequences.size(); ++i)
    pieces.push_back({&sequences[i]->table, ids.subspan(i, 1), sequences[i]->computed});
  engine.forward(pieces, nullptr);
  for (std::size_t i = 0; i < sequences.size(); ++i)
    sequences[i]->take_computed(pieces[i], engine.decoder, static_cast<int>(i));
  compute_logits(sequences);
}

}  // namespace

void append_together(std::span<Session* const> sessions, std::span<const TokenId> ids) {
  at_boundary([&] {
    check_count(sessions.size(), ids.size(), kMostTogether);
    check_apart(sessions);
    std::vector<std::optional<Use>> calls(sessions.size());
    std::vector<Sequence*> sequences;
    for (std::size_t i = 0; i < sessions.size(); ++i) {
      Session::Impl& own = sessions[i]->impl();
      calls[i].emplace(own.exclusive, Session::Impl::kName);
      sequences.push_back(&own);
    }
    check_count(sessions.size(), ids.size(),
                std::min(kMostTogether, sequences[0]->engine->plan.pass));
    check(sequences, ids);
    append_each(sequences, ids);
  });
}

}  // namespace lapidary
