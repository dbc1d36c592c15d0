#include "text/chat_template.h"

#include <algorithm>
#include <string>

#include "base/boundary.h"
#include "base/format.h"
#include "base/printable.h"
#include "lapidary/error.h"
#include "lapidary/prompt.h"
#include "lapidary/utf8.h"
#include "text/prompt_writer.h"

namespace lapidary {
namespace {

/// What stands around the texts of a conversation.
struct Turns {
  std::string_view start, end;  // Markers of a turn, the name of its role behind the first.
  std::string_view model;       // The model's role.
  bool own_system;              // The system text is a turn, else it opens the first user's.
  bool trimmed;                 // Texts lose the white space around them.
};
constexpr Turns kGemmaTurns{"<start_of_turn>", "<end_of_turn>", "model", false, true};
constexpr Turns kChatMlTurns{"<|im_start|>", "<|im_end|>", "assistant", true, false};
constexpr Turns kBareTurns{"", "", "", false, false};

const Turns& turns_of(ChatTemplate as) {
  if (as == ChatTemplate::kChatML) return kChatMlTurns;
  return as == ChatTemplate::kNone ? kBareTurns : kGemmaTurns;
}

/// The same. Throws Error(kUsage) where they are Gemma's own and the vocabulary lacks their
/// markers.
const Turns& turns_of(const Tokenizer& tokenizer, ChatTemplate as) {
  const Turns& turns = turns_of(as);
  if (&turns == &kGemmaTurns && (tokenizer.start_of_turn() < 0 || tokenizer.end_of_turn() < 0)) {
    throw Error(ErrorCode::kUsage,
                "the model's vocabulary has no <start_of_turn> and <end_of_turn>, which its chat "
                "template needs");
  }
  return turns;
}

bool is_bare(const Turns& turns) { return turns.start.empty(); }

std::string_view content(const Turns& turns, std::string_view text) {
  return turns.trimmed ? trim(text) : text;
}

std::span<const ContentPart> parts_of(const Message& message, ContentPart& whole) {
  if (!message.parts.empty()) return message.parts;
  whole.text = message.content;
  return {&whole, 1};
}

/// The text of a message that can show no picture.
std::string text_of(const Turns& turns, const Message& message, std::size_t index) {
  ContentPart whole;
  std::string text;
  for (const ContentPart& part : parts_of(message, whole)) {
    if (part.image) {
      throw Error(ErrorCode::kUsage, format("message {} has role \"{}\" and a picture, expected "
                                            "pictures in the role \"user\" only",
                                            index + 1, printable_value(message.role)));
    }
    text += content(turns, part.text);
  }
  return text;
}

void write_parts(PromptWriter& writer, const Turns& turns, std::span<const ContentPart> parts) {
  for (const ContentPart& part : parts) {
    if (part.image) {
      writer.picture(*part.image);
    } else {
      writer.text(content(turns, part.text));
    }
  }
}

/// A system text and a user's message, up to where the model's turn begins.
void write_user_turn(PromptWriter& writer, const Turns& turns, std::span<const ContentPart> parts,
                     std::string_view system) {
  const bool has_system = !trim(system).empty();
  if (is_bare(turns)) {
    if (has_system) writer.text(system).text("\n");
    return write_parts(writer, turns, parts);
  }
  if (has_system && turns.own_system)
    writer.marker(turns.start).text("system\n").text(system).marker(turns.end).text("\n");
  writer.marker(turns.start).text("user\n");
  if (has_system && !turns.own_system) writer.text(content(turns, system)).text("\n\n");
  write_parts(writer, turns, parts);
  writer.marker(turns.end).text("\n").marker(turns.start).text(turns.model).text("\n");
}

/// Ends the model's turn behind `reply`, which holds the end already where that is text that it
/// drew.
void write_end(PromptWriter& writer, const Tokenizer& tokenizer, const Turns& turns,
               std::span<const TokenId> reply) {
  if (is_bare(turns)) {
    writer.text("\n");
    return;
  }
  const bool drawn_as_text = find_marker(tokenizer, turns.end) < 0;
  const std::string text = drawn_as_text ? tokenizer.decode(reply) : "";
  const std::size_t begun = text.rfind(turns.start);
  const std::size_t end = text.find(turns.end, begun == std::string::npos ? 0 : begun);
  if (end == std::string::npos) {
    writer.marker(turns.end).text("\n");
  } else if (text.size() == end + turns.end.size()) {
    writer.text("\n");
  }
}

/// Whether `ids` end in a turn that has begun and not ended.
bool turn_is_open(const Tokenizer& tokenizer, const Turns& turns, std::span<const TokenId> ids) {
  if (is_bare(turns)) return !ids.empty();
  const TokenId start = find_marker(tokenizer, turns.start);
  const TokenId end = find_marker(tokenizer, turns.end);
  if (start >= 0 && end >= 0) {
    const auto marker = std::find_if(ids.rbegin(), ids.rend(),
                                     [&](TokenId id) { return id == start || id == end; });
    return marker != ids.rend() && *marker == start;
  }
  return tokenizer.decode(ids).find(turns.start) != std::string::npos;
}

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

/// The beginning of the character that ends at `end`: at most 3 continuation bytes before it.
std::size_t last_character(std::string_view text) {
  std::size_t at = text.size() - 1;
  while (at > 0 && text.size() - at < 4 && is_continuation(text[at])) --at;
  return at;
}

[[noreturn]] void fail_roles(std::size_t index, const std::string& role,
                             std::string_view expected) {
  throw Error(ErrorCode::kUsage, format("message {} has role \"{}\", expected {}", index + 1,
                                        printable_value(role), expected));
}

}  // namespace

ChatTemplate recognise_template(std::string_view text) {
  constexpr std::string_view kOthers[] = {
      "[INST]",  "<|start_header_id|>", "<|user|>",       "<|assistant|>",
      "<|turn>", "<|start|>",           "### Instruction"};
  const auto has = [&](std::string_view part) { return text.find(part) != text.npos; };
  if (trim(text).empty()) return ChatTemplate::kNone;
  const bool gemma = has(kGemmaTurns.start) && has(kGemmaTurns.end);
  const bool chatml = has(kChatMlTurns.start) && has(kChatMlTurns.end);
  if (gemma == chatml || std::ranges::any_of(kOthers, has)) return ChatTemplate::kOther;
  return gemma ? ChatTemplate::kGemma : ChatTemplate::kChatML;
}

std::string_view trim(std::string_view text) {
  while (!text.empty()) {
    const Utf8Step step = next_utf8(text);
    if (!step.valid || !is_space(step.code_point)) break;
    text.remove_prefix(step.bytes);
  }
  while (!text.empty()) {
    const std::size_t at = last_character(text);
    const Utf8Step step = next_utf8(text.substr(at));
    if (!step.valid || at + step.bytes != text.size() || !is_space(step.code_point)) break;
    text.remove_suffix(step.bytes);
  }
  return text;
}

Prompt user_turn(const Tokenizer& tokenizer, std::span<const ContentPart> parts,
                 std::string_view system, std::span<const TokenId> before, ChatTemplate as,
                 const std::atomic<bool>* cancel) {
  const Turns& turns = turns_of(tokenizer, as);
  PromptWriter writer(tokenizer, cancel);
  if (before.empty()) writer.control(tokenizer.bos());
  if (turn_is_open(tokenizer, turns, before)) write_end(writer, tokenizer, turns, before);
  write_user_turn(writer, turns, parts, before.empty() ? system : std::string_view());
  return writer.take();
}

Prompt next_turn(const Tokenizer& tokenizer, std::span<const TokenId> reply, const Message& message,
                 ChatTemplate as, const std::atomic<bool>* cancel) {
  return at_boundary([&] {
    const Turns& turns = turns_of(tokenizer, as);
    PromptWriter writer(tokenizer, cancel);
    write_end(writer, tokenizer, turns, reply);
    ContentPart whole;
    write_user_turn(writer, turns, parts_of(message, whole), {});
    return writer.take();
  });
}

std::vector<std::string> turn_stops(const Tokenizer& tokenizer, ChatTemplate as) {
  return at_boundary([&]() -> std::vector<std::string> {
    const Turns& turns = turns_of(as);
    if (is_bare(turns) || find_marker(tokenizer, turns.end) >= 0) return {};
    return {std::string(turns.end)};
  });
}

Prompt chat_prompt(const Tokenizer& tokenizer, std::span<const Message> messages, ChatTemplate as,
                   const std::atomic<bool>* cancel) {
  return at_boundary([&] {
    const Turns& turns = turns_of(tokenizer, as);
    const bool has_system = !messages.empty() && messages.front().role == "system";
    const std::string system = has_system ? text_of(turns, messages.front(), 0) : std::string();
    const std::size_t turns_begin = has_system ? 1 : 0;
    if (messages.size() == turns_begin)
      throw Error(ErrorCode::kUsage, "no message with role \"user\" in the conversation");
    PromptWriter writer(tokenizer, cancel);
    writer.control(tokenizer.bos());
    for (std::size_t i = turns_begin; i < messages.size(); ++i) {
      const std::string& role = messages[i].role;
      const bool user_turn = (i - turns_begin) % 2 == 0;
      if (user_turn && role != "user")
        fail_roles(i, role, "\"user\": the roles user and model alternate");
      if (user_turn) {
        ContentPart whole;
        write_user_turn(writer, turns, parts_of(messages[i], whole),
                        i == turns_begin ? std::string_view(system) : std::string_view());
        continue;
      }
      if (role != "model" && role != "assistant") {
        fail_roles(i, role, "\"model\" or \"assistant\": the roles user and model alternate");
      }
      if (i + 1 == messages.size())
        fail_roles(i, role, "\"user\" in the last message, for the model to answer");
      writer.text(text_of(turns, messages[i], i));
      write_end(writer, tokenizer, turns, {});
    }
    return writer.take();
  });
}

}  // namespace lapidary
