#include "conversation.h"

#include <algorithm>
#include <utility>

#include "terminal.h"

namespace cli {

using lapidary::TokenId;

Conversation::Conversation(const lapidary::Model& model, const lapidary::SessionOptions& options,
                           std::string system)
    : session_(model, options), system_(std::move(system)) {}

std::vector<TokenId> Conversation::opening(const std::string& text, bool first) const {
  const lapidary::Tokenizer& tokenizer = session_.model().tokenizer();
  std::vector<lapidary::Message> messages;
  if (first && !system_.empty()) messages.push_back({"system", system_});
  messages.push_back({"user", text});
  std::vector<TokenId> ids = lapidary::chat_prompt(tokenizer, messages).ids;
  if (first) return ids;
  // What ends the model's turn stands where BOS would.
  std::vector<TokenId> turn{tokenizer.end_of_turn()};
  const std::vector<TokenId> newline = tokenizer.encode("\n");
  turn.insert(turn.end(), newline.begin(), newline.end());
  turn.insert(turn.end(), ids.begin() + 1, ids.end());
  return turn;
}

std::vector<TokenId> Conversation::ids() const {
  std::vector<TokenId> all;
  for (const Turn& turn : turns_) {
    all.insert(all.end(), turn.opening.begin(), turn.opening.end());
    all.insert(all.end(), turn.reply.begin(), turn.reply.end());
  }
  return all;
}

int Conversation::tokens() const { return static_cast<int>(ids().size()); }

Reply Conversation::say(const std::string& text, const lapidary::GenerateOptions& options,
                        const lapidary::OnText& on_text, const lapidary::Progress& progress) {
  turns_.push_back({text, opening(text, turns_.empty()), {}});
  const std::vector<TokenId> wanted = ids();
  const std::span<const TokenId> there = session_.ids();
  const bool goes_on =
      there.size() < wanted.size() && std::equal(there.begin(), there.end(), wanted.begin());
  const std::size_t cached = goes_on ? there.size() : 0;
  Reply reply;
  try {
    if (!goes_on) session_.clear();
    const double start = now();
    session_.append(std::span(wanted).subspan(cached), progress, options.cancel);
    const double middle = now();
    reply.completion = session_.generate(options, on_text);
    reply.decode_seconds = now() - middle;
    reply.prefill_seconds = middle - start;
  } catch (...) {
    turns_.pop_back();
    throw;
  }
  reply.cached = static_cast<int>(cached);
  reply.read = static_cast<int>(wanted.size() - cached);
  const std::span<const TokenId> after = session_.ids();
  turns_.back().reply.assign(after.begin() + static_cast<std::ptrdiff_t>(wanted.size()),
                             after.end());
  return reply;
}

void Conversation::undo() { turns_.pop_back(); }

void Conversation::set_system(std::string text) {
  system_ = std::move(text);
  if (!turns_.empty()) turns_.front().opening = opening(turns_.front().user, true);
}

}  // namespace cli
