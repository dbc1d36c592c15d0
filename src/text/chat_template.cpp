#include "text/chat_template.h"

#include <algorithm>
#include <string>

#include "lapidary/error.h"
#include "lapidary/session.h"
#include "text/utf8.h"

namespace lapidary {
namespace {

/// Puts a prompt together: control tokens as ids, and all text between two of them as one string
/// for SentencePiece, the template's own included ("user\n" before "\n\n" is one token of three
/// newlines).
class PromptWriter {
 public:
  explicit PromptWriter(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  PromptWriter& control(TokenId id) {
    flush();
    ids_.push_back(id);
    return *this;
  }

  PromptWriter& text(std::string_view text) {
    pending_ += text;
    return *this;
  }

  std::vector<TokenId> take() {
    flush();
    return std::move(ids_);
  }

 private:
  void flush() {
    const std::vector<TokenId> part = tokenizer_.encode(pending_);
    ids_.insert(ids_.end(), part.begin(), part.end());
    pending_.clear();
  }

  const Tokenizer& tokenizer_;
  std::string pending_;
  std::vector<TokenId> ids_;
};

void check_turn_tokens(const Tokenizer& tokenizer) {
  if (tokenizer.start_of_turn() >= 0 && tokenizer.end_of_turn() >= 0) return;
  throw Error(ErrorCode::kUsage,
              "the model's vocabulary has no <start_of_turn> and <end_of_turn>, which its chat "
              "template needs");
}

void write_user_turn(PromptWriter& writer, const Tokenizer& tokenizer, std::string_view text,
                     std::string_view system) {
  writer.control(tokenizer.start_of_turn()).text("user\n");
  if (!trim(system).empty()) writer.text(trim(system)).text("\n\n");
  writer.text(trim(text)).control(tokenizer.end_of_turn());
  writer.text("\n").control(tokenizer.start_of_turn()).text("model\n");
}

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

/// The beginning of the character that ends at `end`: at most 3 continuation bytes before it.
std::size_t last_character(std::string_view text) {
  std::size_t at = text.size() - 1;
  while (at > 0 && text.size() - at < 4 && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U)
    --at;
  return at;
}

[[noreturn]] void fail_roles(std::size_t index, const std::string& role,
                             std::string_view expected) {
  throw Error(ErrorCode::kUsage, "message " + std::to_string(index + 1) + " has role \"" + role +
                                     "\", expected " + std::string(expected));
}

}  // namespace

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

std::vector<TokenId> user_turn_ids(const Tokenizer& tokenizer, std::string_view text,
                                   std::string_view system, bool first, bool close_model_turn) {
  check_turn_tokens(tokenizer);
  PromptWriter writer(tokenizer);
  if (first) writer.control(tokenizer.bos());
  if (close_model_turn) writer.control(tokenizer.end_of_turn()).text("\n");
  write_user_turn(writer, tokenizer, text, first ? system : std::string_view());
  return writer.take();
}

std::vector<TokenId> chat_prompt(const Tokenizer& tokenizer, std::span<const Message> messages) {
  check_turn_tokens(tokenizer);
  const bool has_system = !messages.empty() && messages.front().role == "system";
  const std::size_t turns_begin = has_system ? 1 : 0;
  if (messages.size() == turns_begin)
    throw Error(ErrorCode::kUsage, "no message with role \"user\" in the conversation");
  PromptWriter writer(tokenizer);
  writer.control(tokenizer.bos());
  for (std::size_t i = turns_begin; i < messages.size(); ++i) {
    const auto& [role, content] = messages[i];
    const bool user_turn = (i - turns_begin) % 2 == 0;
    if (user_turn && role != "user")
      fail_roles(i, role, "\"user\": the roles user and model alternate");
    if (user_turn) {
      write_user_turn(writer, tokenizer, content,
                      i == 1 && has_system ? messages.front().content : std::string_view());
      continue;
    }
    if (role != "model" && role != "assistant") {
      fail_roles(i, role, "\"model\" or \"assistant\": the roles user and model alternate");
    }
    if (i + 1 == messages.size())
      fail_roles(i, role, "\"user\" in the last message, for the model to answer");
    writer.text(trim(content)).control(tokenizer.end_of_turn()).text("\n");
  }
  return writer.take();
}

std::vector<TokenId> text_prompt(const Tokenizer& tokenizer, std::string_view text,
                                 bool parse_control) {
  std::vector<TokenId> ids = tokenizer.encode(text, parse_control);
  ids.insert(ids.begin(), tokenizer.bos());
  return ids;
}

}  // namespace lapidary
