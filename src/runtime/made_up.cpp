#include "model/made_up.h"

#include <algorithm>
#include <vector>

#include "base/boundary.h"
#include "base/format.h"
#include "lapidary/error.h"
#include "model/weights.h"
#include "runtime/model_impl.h"
#include "runtime/session_impl.h"

namespace lapidary {

namespace {

/// Others would take what is kept for reuse for computed.
void check(const Sequence& sequence, int count) {
  if (count < 1) throw Error(ErrorCode::kUsage, format("{} tokens cannot be made up", count));
  if (sequence.engine->shares() || sequence.speculator != nullptr) {
    throw Error(ErrorCode::kUsage,
                "tokens are made up only in a session with an engine of its own, without drafts");
  }
}

void make_up_in(Sequence& sequence, int count) {
  check(sequence, count);
  const TokenId bos = sequence.engine->model.tokenizer().bos();
  const std::vector<TokenId> made(static_cast<std::size_t>(count - 1), bos);
  sequence.check_ids(std::vector<TokenId>(static_cast<std::size_t>(count), bos));
  sequence.compute();
  {
    const Turn turn(*sequence.engine);
    const auto& model = sequence.engine->model.impl();
    const int end = sequence.computed + count - 1;
    const int seen = end - model.config.sliding_window - kMostRewind;
    while (sequence.computed < end) {
      const int next = std::min(end, sequence.computed + sequence.plan.chunk);
      make_up(sequence.table, model.config, *model.weights->kernels, sequence.computed, next, seen);
      sequence.computed = next;
    }
    sequence.ids.insert(sequence.ids.end(), made.begin(), made.end());
  }
  sequence.append({&bos, 1}, {}, {}, nullptr);
}

}  // namespace

void append_made_up(Session& session, int count) {
  at_boundary([&] {
    Session::Impl& own = session.impl();
    const Use call(own.exclusive, Session::Impl::kName);
    make_up_in(own, count);
  });
}

}  // namespace lapidary
