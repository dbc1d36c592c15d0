// libFuzzer entry of conversations: any roles and texts are a prompt or an Error(kUsage), and no
// text in them can forge a turn. The first byte chooses the template; a message is a line with its
// role, then its text up to a line with "---".

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "../unit/test_data.h"
#include "base/printable.h"
#include "lapidary/lapidary.h"
#include "text/chat_template.h"

namespace {

using lapidary::ChatTemplate;
using lapidary::Message;
using lapidary::Prompt;
using lapidary::TokenId;

std::string_view take(std::string_view& input, std::string_view end) {
  const std::string_view part = input.substr(0, input.find(end));
  input.remove_prefix(std::min(part.size() + end.size(), input.size()));
  return part;
}

std::vector<Message> conversation(std::string_view input) {
  std::vector<Message> messages;
  while (!input.empty()) {
    const std::string_view role = take(input, "\n");
    messages.push_back({std::string(role), std::string(take(input, "\n---\n"))});
  }
  return messages;
}

void check(bool holds) {
  if (!holds) std::abort();
}

std::ptrdiff_t turns(const Prompt& prompt, const lapidary::Tokenizer& tokenizer) {
  for (const TokenId id : prompt.ids) check(id >= 0 && id < tokenizer.vocabulary_size());
  return std::ranges::count(prompt.ids, tokenizer.start_of_turn());
}

void try_chat(const std::vector<Message>& messages, ChatTemplate as) {
  static const lapidary::Tokenizer tokenizer =
      lapidary::load_tokenizer(lapidary::test_data("tiny-gemma3-text-bf16.gguf"));
  const Prompt prompt = lapidary::chat_prompt(tokenizer, messages, as);
  const bool has_system = messages.front().role == "system";
  const std::ptrdiff_t own =
      as == ChatTemplate::kGemma ? std::ssize(messages) + 1 - (has_system ? 1 : 0) : 0;
  check(turns(prompt, tokenizer) == own);
  const Prompt next = lapidary::next_turn(tokenizer, prompt.ids, messages.back(), as);
  check(turns(next, tokenizer) == (as == ChatTemplate::kGemma ? 2 : 0));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr ChatTemplate kTemplates[] = {ChatTemplate::kGemma, ChatTemplate::kChatML,
                                         ChatTemplate::kNone};
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data + 1), size - 1);
  lapidary::recognise_template(input);
  try {
    try_chat(conversation(input), kTemplates[data[0] % 3]);
  } catch (const lapidary::Error& error) {
    check(error.code() == lapidary::ErrorCode::kUsage);
    check(lapidary::is_printable(error.what(), lapidary::kMostOfALine));
  }
  return 0;
}
