// What a chat does when the context is full.
#include <algorithm>
#include <limits>

#include "chat_loop.h"
#include "text.h"

namespace cli {

using lapidary::Error;
using lapidary::FinishReason;

namespace {

std::string oldest(int turns) {
  return turns == 1 ? "the oldest turn" : format("the %d oldest turns", turns);
}

// What both pieces of one reply took.
void extend(Reply& all, const Reply& more) {
  all.completion.text += more.completion.text;
  all.completion.ids.insert(all.completion.ids.end(), more.completion.ids.begin(),
                            more.completion.ids.end());
  all.completion.finish_reason = more.completion.finish_reason;
  all.completion.usage.drafted_tokens += more.completion.usage.drafted_tokens;
  all.completion.usage.accepted_tokens += more.completion.usage.accepted_tokens;
  all.read += more.read;
  all.again += more.again;
  all.prefill_seconds += more.prefill_seconds;
  all.decode_seconds += more.decode_seconds;
}

}  // namespace

// Without an answer nothing is dropped, and a script gives none.
bool Chat::may_drop() const {
  return slides() || (options_.on_full != "stop" && editor_.terminal());
}

bool Chat::context_is_full() const { return talk_.tokens() >= talk_.session().context(); }

// What a reply should have: all that it may draw, but no more than an eighth of the context.
int Chat::reply_room() const {
  const int most =
      sampling_.max_tokens < 0 ? std::numeric_limits<int>::max() : sampling_.max_tokens;
  return std::clamp(most, 1, std::max(1, talk_.session().context() / 8));
}

// A quarter of the context, so that not every turn drops some.
int Chat::room_to_make() const { return std::max(reply_room(), talk_.session().context() / 4); }

// How many turns go so that `message` and its reply have room; nothing: it must not be sent. Where
// no number of turns is enough, it is up to talk_ to say so.
std::optional<int> Chat::make_room(const UserMessage& message) {
  if (!may_drop()) return 0;
  check_text(talk_.session(), message.text.size());
  const int left = talk_.room_behind(message);
  if (left >= reply_room()) return 0;
  const int drop = talk_.to_drop(&message, room_to_make());
  if (drop == 0 || talk_.room_behind(message, drop) <= std::max(left, 0)) return 0;
  if (drop_agreed(drop, "make room")) return drop;
  if (left > 0) return 0;
  return {};
}

bool Chat::drop_agreed(int drop, const std::string& purpose) {
  if (slides()) {
    if (editor_.terminal()) output_.end_line();
    complain("the context is full: the model no longer sees " + oldest(drop));
    return true;
  }
  output_.end_line();
  std::string answer;
  const std::string question =
      "the context is full: drop " + oldest(drop) + " to " + purpose + "? [y/N] ";
  if (editor_.read(question, answer) != LineEditor::Event::kLine) return false;
  return answer.starts_with('y') || answer.starts_with('Y');
}

// As long as the reply was cut off by the end of the context, and turns before it can go.
void Chat::go_on(lapidary::GenerateOptions options) {
  std::size_t drawn = last_->completion.ids.size();
  while (may_drop() && last_->completion.finish_reason == FinishReason::kLength &&
         context_is_full()) {
    if (options.max_tokens >= 0) options.max_tokens -= static_cast<int>(drawn);
    if (options.max_tokens == 0) return;
    const int drop = talk_.to_drop(nullptr, room_to_make());
    if (drop == 0 || !drop_agreed(drop, "go on")) return;
    try {
      const Reply more =
          watched([&](const lapidary::OnText& write, const lapidary::Progress& progress) {
            return talk_.go_on(options, write, progress, drop);
          });
      drawn = more.completion.ids.size();
      extend(*last_, more);
    } catch (const Error& error) {
      return fail_or_stop(error, "reading what is left; the reply ends here");
    }
  }
}

}  // namespace cli
