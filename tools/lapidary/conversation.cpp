#include "conversation.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "pictures.h"
#include "terminal.h"

namespace cli {

using lapidary::ImageFeatures;
using lapidary::Prompt;
using lapidary::TokenId;

namespace {

lapidary::Message message_of(const UserMessage& user) {
  lapidary::Message message{"user", {}};
  for (const UserPicture& picture : user.pictures) message.parts.push_back({{}, picture.encoded});
  message.parts.push_back({user.text});
  return message;
}

// An undone turn, or another answer to the last, begins with what was computed before.
lapidary::SessionOptions keeping(lapidary::SessionOptions options) {
  options.reuse = true;
  return options;
}

}  // namespace

Conversation::Conversation(const lapidary::Model& model, const lapidary::SessionOptions& options,
                           std::string system, lapidary::ChatTemplate kind)
    : session_(model, keeping(options)), system_(std::move(system)), kind_(kind) {}

Prompt Conversation::first_turn(const UserMessage& message) const {
  std::vector<lapidary::Message> messages;
  if (!system_.empty()) messages.push_back({"system", system_});
  messages.push_back(message_of(message));
  return lapidary::chat_prompt(session_.model().tokenizer(), messages, kind_, &interrupted);
}

Prompt Conversation::opening(const UserMessage& message) const {
  if (turns_.empty()) return first_turn(message);
  return lapidary::next_turn(session_.model().tokenizer(), turns_.back().reply, message_of(message),
                             kind_, &interrupted);
}

Prompt Conversation::prompt() const {
  Prompt all;
  for (const Turn& turn : turns_) {
    std::ranges::copy(turn.opening.ids, std::back_inserter(all.ids));
    std::ranges::copy(turn.reply, std::back_inserter(all.ids));
    std::ranges::copy(turn.opening.images, std::back_inserter(all.images));
  }
  return all;
}

int Conversation::tokens() const { return static_cast<int>(prompt().ids.size()); }

int Conversation::image_tokens() const {
  int tokens = 0;
  for (const ImageFeatures& image : prompt().images) tokens += image.tokens;
  return tokens;
}

void Conversation::check_room(const UserMessage& message) const {
  check_text(session_, message.text.size());
  const Prompt turn = opening(message);
  cli::check_room(session_, prompt().ids.size() + turn.ids.size());
}

// Takes from `wanted` what the session holds already; where it holds something else, it forgets
// everything. Equal ids are not enough: their pictures must be the same.
void Conversation::drop_computed(Prompt& wanted) {
  const std::span<const TokenId> there = session_.ids();
  auto tokens = std::ranges::count(there, session_.model().tokenizer().image_token());
  std::size_t images = 0;
  for (; tokens > 0 && images < images_.size(); ++images) tokens -= images_[images].tokens;
  const bool goes_on =
      there.size() < wanted.ids.size() && images <= wanted.images.size() &&
      std::equal(there.begin(), there.end(), wanted.ids.begin()) &&
      std::equal(images_.begin(), images_.begin() + static_cast<std::ptrdiff_t>(images),
                 wanted.images.begin(), [](const ImageFeatures& a, const ImageFeatures& b) {
                   return a.values == b.values;
                 });
  images_ = wanted.images;
  if (!goes_on) return session_.clear();
  wanted.ids.erase(wanted.ids.begin(),
                   wanted.ids.begin() + static_cast<std::ptrdiff_t>(there.size()));
  wanted.images.erase(wanted.images.begin(),
                      wanted.images.begin() + static_cast<std::ptrdiff_t>(images));
}

Reply Conversation::say(const UserMessage& message, const lapidary::GenerateOptions& options,
                        const lapidary::OnText& on_text, const lapidary::Progress& progress) {
  check_room(message);
  turns_.push_back({message, opening(message), {}});
  Prompt wanted = prompt();
  const std::size_t whole = wanted.ids.size();
  Reply reply;
  try {
    drop_computed(wanted);
    const double start = now();
    session_.append(wanted, progress, options.cancel);
    const double middle = now();
    reply.completion = session_.generate(options, on_text);
    reply.decode_seconds = now() - middle;
    reply.prefill_seconds = middle - start;
  } catch (...) {
    turns_.pop_back();
    throw;
  }
  // Behind what was there, the session may have taken what was computed before an undo.
  const int there = static_cast<int>(whole - wanted.ids.size());
  reply.cached = std::max(there, reply.completion.usage.cached_tokens);
  reply.read = static_cast<int>(whole) - reply.cached;
  std::ranges::remove_copy(session_.ids().subspan(whole), std::back_inserter(turns_.back().reply),
                           session_.model().tokenizer().image_token());
  return reply;
}

void Conversation::undo() { turns_.pop_back(); }

void Conversation::set_system(std::string text) {
  system_ = std::move(text);
  if (!turns_.empty()) turns_.front().opening = first_turn(turns_.front().user);
}

}  // namespace cli
