#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "base/boundary.h"
#include "base/format.h"
#include "lapidary/error.h"
#include "runtime/model_impl.h"
#include "runtime/session_impl.h"

namespace lapidary {

namespace {

void check(std::span<Sequence* const> sequences, std::span<const TokenId> ids) {
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    if (&sequences[i]->model.impl() != &sequences[0]->model.impl())
      throw Error(ErrorCode::kUsage, "sessions of different models cannot go on together");
    sequences[i]->check_ids(ids.subspan(i, 1));
    if (ids[i] >= sequences[i]->model.info().vocabulary)
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

}  // namespace

void append_together(std::span<Session* const> sessions, std::span<const TokenId> ids) {
  at_boundary([&] {
    check_count(sessions.size(), ids.size(), kMostTogether);
    check_apart(sessions);
    std::array<std::optional<Use>, kMostTogether> calls;
    std::array<Sequence*, kMostTogether> all{};
    for (std::size_t i = 0; i < sessions.size(); ++i) {
      Session::Impl& own = sessions[i]->impl();
      calls[i].emplace(own.exclusive, Session::Impl::kName);
      all[i] = &own;
    }
    check_count(sessions.size(), ids.size(), std::min(kMostTogether, all[0]->plan.chunk));
    const std::span<Sequence* const> sequences = std::span(all).first(sessions.size());
    check(sequences, ids);
    for (Sequence* sequence : sequences) sequence->compute();
    Sequence::append_each(sequences, ids);
  });
}

}  // namespace lapidary
