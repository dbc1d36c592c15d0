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

void append_to(Prompt& all, const Prompt& more) {
  all.ids.insert(all.ids.end(), more.ids.begin(), more.ids.end());
  all.images.insert(all.images.end(), more.images.begin(), more.images.end());
}

// How many ids both begin with.
std::size_t common_ids(std::span<const TokenId> a, std::span<const TokenId> b) {
  return static_cast<std::size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

// How much of `wanted` the session holds. Equal ids are not enough: their pictures must be the
// same, and one is there as a whole or not at all.
std::size_t common(const lapidary::Session& session, const Prompt& wanted) {
  const std::span<const TokenId> there = session.ids();
  const std::span<const ImageFeatures> images = session.images();
  const std::size_t same = common_ids(there, wanted.ids);
  const TokenId soft = session.model().tokenizer().image_token();
  std::size_t image = 0;
  for (std::size_t at = 0; at < same;) {
    if (there[at] != soft) {
      ++at;
      continue;
    }
    if (image >= images.size() || image >= wanted.images.size()) return at;
    const auto end = at + static_cast<std::size_t>(images[image].tokens);
    if (end > same || images[image].values != wanted.images[image].values) return at;
    at = end;
    ++image;
  }
  return same;
}

// The ids of `all` from `from` on, up to `to`, and their pictures.
Prompt part_of(const Prompt& all, std::size_t from, std::size_t to, TokenId soft) {
  const auto at = [&](std::size_t id) { return all.ids.begin() + static_cast<std::ptrdiff_t>(id); };
  Prompt part;
  part.ids.assign(at(from), at(to));
  auto before = std::count(all.ids.begin(), at(from), soft);
  auto within = std::count(at(from), at(to), soft);
  for (const ImageFeatures& image : all.images) {
    if (before > 0) {
      before -= image.tokens;
    } else if (within > 0) {
      part.images.push_back(image);
      within -= image.tokens;
    }
  }
  return part;
}

}  // namespace

Conversation::Conversation(lapidary::Session session, std::string system,
                           lapidary::ChatTemplate kind)
    : session_(std::move(session)), system_(std::move(system)), kind_(kind) {}

Prompt Conversation::first_turn(const UserMessage& message, const std::atomic<bool>* cancel) const {
  std::vector<lapidary::Message> messages;
  if (!system_.empty()) messages.push_back({"system", system_});
  messages.push_back(message_of(message));
  return lapidary::chat_prompt(session_.model().tokenizer(), messages, kind_, cancel);
}

// Behind the turns that are there, once the model no longer sees the `drop` oldest.
Prompt Conversation::opening(const UserMessage& message, int drop) const {
  if (first_ + static_cast<std::size_t>(drop) >= turns_.size())
    return first_turn(message, &interrupted);
  return lapidary::next_turn(session_.model().tokenizer(), turns_.back().reply, message_of(message),
                             kind_, &interrupted);
}

Prompt Conversation::prompt() const {
  Prompt all;
  for (std::size_t i = first_; i < turns_.size(); ++i) {
    append_to(all, opening_of(i));
    all.ids.insert(all.ids.end(), turns_[i].reply.begin(), turns_[i].reply.end());
  }
  return all;
}

std::size_t Conversation::tokens(int drop) const {
  const std::size_t first = first_ + static_cast<std::size_t>(drop);
  std::size_t tokens = 0;
  for (std::size_t i = first; i < turns_.size(); ++i) {
    const bool leads = (drop > 0 || stale_) && i == first;
    tokens += leads ? first_turn(turns_[i].user).ids.size() : opening_of(i).ids.size();
    tokens += turns_[i].reply.size();
  }
  return tokens;
}

int Conversation::tokens() const { return static_cast<int>(tokens(0)); }

int Conversation::image_tokens() const {
  int tokens = 0;
  for (std::size_t i = first_; i < turns_.size(); ++i) {
    for (const ImageFeatures& image : opening_of(i).images) tokens += image.tokens;
  }
  return tokens;
}

void Conversation::check_room(const UserMessage& message, int drop) const {
  check_text(session_, message.text.size());
  cli::check_room(session_, tokens(drop) + opening(message, drop).ids.size());
}

int Conversation::room_behind(const UserMessage& message, int drop) const {
  const std::size_t used = tokens(drop) + opening(message, drop).ids.size();
  return session_.context() - static_cast<int>(used);
}

int Conversation::to_drop(const UserMessage* message, int room) const {
  const auto seen = static_cast<int>(turns_.size() - first_);
  const std::size_t behind = message != nullptr ? opening(*message, 0).ids.size() : 0;
  for (int drop = 1; drop < seen; ++drop) {
    if (session_.context() - static_cast<int>(tokens(drop) + behind) >= room) return drop;
  }
  return std::max(message != nullptr ? seen : seen - 1, 0);
}

// Makes `first` the first turn that the model sees.
void Conversation::see_from(std::size_t first) {
  first_ = first;
  stale_ = false;
  lead_ = seen(first) ? first_turn(turns_[first].user) : Prompt{};
  find_system_end();
}

void Conversation::find_system_end() {
  system_end_ = 0;
  if (system_.empty() || lead_.ids.empty()) return;
  const Prompt letter = first_turn({"a", {}}), digit = first_turn({"1", {}});
  const std::size_t any = common_ids(letter.ids, digit.ids);
  system_end_ = static_cast<int>(common_ids(std::span(letter.ids).first(any), lead_.ids));
}

// Takes the session to where it begins to differ from `wanted`; returns how much of that is
// computed.
int Conversation::go_back(const Prompt& wanted) {
  const auto there = static_cast<int>(common(session_, wanted));
  return there < session_.position() ? there - session_.rewind(there) : there;
}

// Computes what the model sees and the session does not hold.
Reply Conversation::bring(const lapidary::Progress& progress, const std::atomic<bool>* cancel) {
  const Prompt wanted = prompt();
  const TokenId soft = session_.model().tokenizer().image_token();
  const double start = now();
  Reply reply;
  reply.cached = go_back(wanted);
  reply.read = static_cast<int>(wanted.ids.size()) - reply.cached;
  const auto there = static_cast<std::size_t>(session_.position());
  const auto pinned = static_cast<std::size_t>(system_end_);
  std::uint64_t before = 0;
  const auto count = [&](std::uint64_t done, std::uint64_t) {
    if (progress) progress(before + done, wanted.ids.size() - there);
  };
  if (there <= pinned && pinned > 0) {
    if (there < pinned) session_.append(part_of(wanted, there, pinned, soft), count, cancel);
    session_.pin();
    before = pinned - there;
  }
  const auto from = static_cast<std::size_t>(session_.position());
  if (from < wanted.ids.size())
    session_.append(part_of(wanted, from, wanted.ids.size(), soft), count, cancel);
  reply.prefill_seconds = now() - start;
  return reply;
}

// Draws behind what the session holds, which is all that the model sees, and keeps it.
void Conversation::draw(Reply& reply, const lapidary::GenerateOptions& options,
                        const lapidary::OnText& on_text) {
  const auto before = static_cast<std::size_t>(session_.position());
  const double start = now();
  reply.completion = session_.generate(options, on_text);
  reply.decode_seconds = now() - start;
  std::ranges::remove_copy(session_.ids().subspan(before), std::back_inserter(turns_.back().reply),
                           session_.model().tokenizer().image_token());
}

Reply Conversation::say(const UserMessage& message, const lapidary::GenerateOptions& options,
                        const lapidary::OnText& on_text, const lapidary::Progress& progress,
                        int drop) {
  check_room(message, drop);
  const Prompt turn = opening(message, drop);
  const std::size_t before = first_, count = turns_.size();
  try {
    if (drop > 0 || stale_) see_from(first_ + static_cast<std::size_t>(drop));
    turns_.push_back({message, {}, {}, first_});
    if (first_ + 1 == turns_.size()) {
      lead_ = turn;
      find_system_end();
    } else {
      turns_.back().opening = turn;
    }
    Reply reply = bring(progress, options.cancel);
    reply.again = std::max(0, reply.read - static_cast<int>(turn.ids.size()));
    draw(reply, options, on_text);
    return reply;
  } catch (...) {
    turns_.resize(count);
    see_from(before);
    throw;
  }
}

Reply Conversation::go_on(const lapidary::GenerateOptions& options, const lapidary::OnText& on_text,
                          const lapidary::Progress& progress, int drop) {
  const std::size_t before = first_;
  try {
    see_from(first_ + static_cast<std::size_t>(drop));
    Reply reply = bring(progress, options.cancel);
    reply.again = reply.read;
    draw(reply, options, on_text);
    turns_.back().seen_from = first_;
    return reply;
  } catch (...) {
    see_from(before);
    throw;
  }
}

void Conversation::take_back(int count) {
  turns_.resize(turns_.size() - static_cast<std::size_t>(count));
  std::size_t first = turns_.empty() ? 0 : turns_.back().seen_from;
  first = std::min(std::max(first, restorable_), turns_.size());
  if (first != first_ || !seen(first)) see_from(first);
}

void Conversation::clear() {
  turns_.clear();
  restorable_ = 0;
  see_from(0);
}

void Conversation::set_system(std::string text) {
  stale_ = stale_ || (text != system_ && seen(first_));
  system_ = std::move(text);
}

lapidary::Session& Conversation::settled(const lapidary::Progress& progress,
                                         const std::atomic<bool>* cancel) {
  bring(progress, cancel);
  return session_;
}

}  // namespace cli
