#include "text/chat_template.h"

#include <algorithm>
#include <string>

#include "lapidary/error.h"
#include "lapidary/session.h"
#include "text/utf8.h"

namespace lapidary {
namespace {

/// Soft tokens of one view of a picture, in every Gemma 3.
constexpr int kViewTokens = 256;

/// Puts a prompt together: control tokens as ids, and all text between two of them as one string
/// for SentencePiece, the template's own included ("user\n" before "\n\n" is one token of three
/// newlines).
class PromptWriter {
 public:
  /// With `parse_control`, control tokens written in the text are read as such.
  explicit PromptWriter(const Tokenizer& tokenizer, bool parse_control = false)
      : tokenizer_(tokenizer), parse_control_(parse_control) {}

  PromptWriter& control(TokenId id) {
    flush();
    prompt_.ids.push_back(id);
    return *this;
  }

  /// A mark of turns: the id that the vocabulary has for it, or its text.
  PromptWriter& mark(std::string_view mark) {
    flush();
    const std::vector<TokenId> ids = tokenizer_.encode(mark, true);
    prompt_.ids.insert(prompt_.ids.end(), ids.begin(), ids.end());
    return *this;
  }

  PromptWriter& text(std::string_view text) {
    pending_ += text;
    return *this;
  }

  PromptWriter& picture(const EncodedImage& image) {
    std::vector<int> tokens;
    for (const ImageFeatures& view : image.features) tokens.push_back(view.tokens);
    prompt_.images.insert(prompt_.images.end(), image.features.begin(), image.features.end());
    return views(tokens);
  }

  /// The whole picture, and the crops with the words that Gemma's own processor puts before them.
  PromptWriter& views(std::span<const int> tokens) {
    check_views(tokens.size());
    if (tokens.size() == 1) return view(tokens.front());
    text("Here is the original image ").view(tokens.front());
    text(" and here are some crops to help you see better");
    for (const int crop : tokens.subspan(1)) text(" ").view(crop);
    return *this;
  }

  Prompt take() {
    flush();
    return std::move(prompt_);
  }

 private:
  PromptWriter& view(int tokens) {
    text("\n\n").control(tokenizer_.start_of_image());
    prompt_.ids.insert(prompt_.ids.end(), static_cast<std::size_t>(std::max(tokens, 0)),
                       tokenizer_.image_token());
    return control(tokenizer_.end_of_image()).text("\n\n");
  }

  void check_views(std::size_t views) const {
    if (views == 0) throw Error(ErrorCode::kUsage, "a picture has no view that was encoded");
    if (tokenizer_.start_of_image() >= 0 && tokenizer_.end_of_image() >= 0 &&
        tokenizer_.image_token() >= 0) {
      return;
    }
    throw Error(ErrorCode::kUsage,
                "the model's vocabulary has no <start_of_image>, <end_of_image> and "
                "<image_soft_token>, which a prompt with pictures needs");
  }

  void flush() {
    const std::vector<TokenId> part = tokenizer_.encode(pending_, parse_control_);
    prompt_.ids.insert(prompt_.ids.end(), part.begin(), part.end());
    pending_.clear();
  }

  const Tokenizer& tokenizer_;
  bool parse_control_;
  std::string pending_;
  Prompt prompt_;
};

void check_turn_tokens(const Tokenizer& tokenizer, ChatTemplate kind) {
  if (kind == ChatTemplate::kChatML) return;
  if (tokenizer.start_of_turn() >= 0 && tokenizer.end_of_turn() >= 0) return;
  throw Error(ErrorCode::kUsage,
              "the model's vocabulary has no <start_of_turn> and <end_of_turn>, which its chat "
              "template needs");
}

std::span<const ContentPart> parts_of(const Message& message, ContentPart& content) {
  if (!message.parts.empty()) return message.parts;
  content.text = message.content;
  return {&content, 1};
}

/// The text of a message that can show no picture, each part trimmed.
std::string text_of(const Message& message, std::size_t index) {
  ContentPart content;
  std::string text;
  for (const ContentPart& part : parts_of(message, content)) {
    if (part.image) {
      throw Error(ErrorCode::kUsage, "message " + std::to_string(index + 1) + " has role \"" +
                                         message.role +
                                         "\" and a picture, expected pictures in the role "
                                         "\"user\" only");
    }
    text += trim(part.text);
  }
  return text;
}

constexpr std::string_view kChatMlStart = "<|im_start|>";
constexpr std::string_view kChatMlEnd = "<|im_end|>";

void end_turn(PromptWriter& writer, const Tokenizer& tokenizer, ChatTemplate kind) {
  if (kind == ChatTemplate::kChatML) {
    writer.mark(kChatMlEnd);
  } else {
    writer.control(tokenizer.end_of_turn());
  }
  writer.text("\n");
}

void start_turn(PromptWriter& writer, const Tokenizer& tokenizer, ChatTemplate kind,
                std::string_view role) {
  if (kind == ChatTemplate::kChatML) {
    writer.mark(kChatMlStart);
  } else {
    writer.control(tokenizer.start_of_turn());
  }
  writer.text(role).text("\n");
}

// Gemma has no turn for a system text: it stands in front of the user's first one.
void write_user_turn(PromptWriter& writer, const Tokenizer& tokenizer,
                     std::span<const ContentPart> parts, std::string_view system,
                     ChatTemplate kind) {
  const bool chat_ml = kind == ChatTemplate::kChatML;
  if (chat_ml && !trim(system).empty()) {
    start_turn(writer, tokenizer, kind, "system");
    writer.text(trim(system));
    end_turn(writer, tokenizer, kind);
  }
  start_turn(writer, tokenizer, kind, "user");
  if (!chat_ml && !trim(system).empty()) writer.text(trim(system)).text("\n\n");
  for (const ContentPart& part : parts) {
    if (part.image) {
      writer.picture(*part.image);
    } else {
      writer.text(trim(part.text));
    }
  }
  end_turn(writer, tokenizer, kind);
  start_turn(writer, tokenizer, kind, chat_ml ? "assistant" : "model");
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

Prompt user_turn(const Tokenizer& tokenizer, std::span<const ContentPart> parts,
                 std::string_view system, bool first, bool close_model_turn, ChatTemplate kind) {
  check_turn_tokens(tokenizer, kind);
  PromptWriter writer(tokenizer);
  if (first) writer.control(tokenizer.bos());
  if (close_model_turn) end_turn(writer, tokenizer, kind);
  write_user_turn(writer, tokenizer, parts, first ? system : std::string_view(), kind);
  return writer.take();
}

Prompt next_turn(const Tokenizer& tokenizer, std::span<const ContentPart> parts,
                 ChatTemplate kind) {
  return user_turn(tokenizer, parts, {}, false, true, kind);
}

std::string_view end_of_turn_text(ChatTemplate kind) {
  return kind == ChatTemplate::kChatML ? kChatMlEnd : "<end_of_turn>";
}

ChatTemplate recognise_template(std::string_view source) {
  const auto writes = [&](std::string_view mark) {
    return source.find(mark) != std::string_view::npos;
  };
  if (writes("<start_of_turn>") && writes("<end_of_turn>")) return ChatTemplate::kGemma;
  if (writes(kChatMlStart) && writes(kChatMlEnd)) return ChatTemplate::kChatML;
  return ChatTemplate::kOther;
}

Prompt chat_prompt(const Tokenizer& tokenizer, std::span<const Message> messages,
                   ChatTemplate kind) {
  check_turn_tokens(tokenizer, kind);
  const bool has_system = !messages.empty() && messages.front().role == "system";
  const std::string system = has_system ? text_of(messages.front(), 0) : std::string();
  const std::size_t turns_begin = has_system ? 1 : 0;
  if (messages.size() == turns_begin)
    throw Error(ErrorCode::kUsage, "no message with role \"user\" in the conversation");
  PromptWriter writer(tokenizer);
  writer.control(tokenizer.bos());
  for (std::size_t i = turns_begin; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    const bool user_turn = (i - turns_begin) % 2 == 0;
    if (user_turn && role != "user")
      fail_roles(i, role, "\"user\": the roles user and model alternate");
    if (user_turn) {
      ContentPart content;
      write_user_turn(writer, tokenizer, parts_of(messages[i], content),
                      i == turns_begin ? std::string_view(system) : std::string_view(), kind);
      continue;
    }
    if (role != "model" && role != "assistant") {
      fail_roles(i, role, "\"model\" or \"assistant\": the roles user and model alternate");
    }
    if (i + 1 == messages.size())
      fail_roles(i, role, "\"user\" in the last message, for the model to answer");
    writer.text(text_of(messages[i], i));
    end_turn(writer, tokenizer, kind);
  }
  return writer.take();
}

Prompt text_prompt(const Tokenizer& tokenizer, std::span<const ContentPart> parts,
                   bool parse_control) {
  PromptWriter writer(tokenizer, parse_control);
  writer.control(tokenizer.bos());
  for (const ContentPart& part : parts) {
    if (part.image) {
      writer.picture(*part.image);
    } else {
      writer.text(part.text);
    }
  }
  return writer.take();
}

Prompt text_prompt(const Tokenizer& tokenizer, std::string_view text, bool parse_control) {
  PromptWriter writer(tokenizer, parse_control);
  return writer.control(tokenizer.bos()).text(text).take();
}

int image_prompt_tokens(const Tokenizer& tokenizer, int views) {
  if (views < 1) {
    throw Error(ErrorCode::kUsage, "a picture has at least 1 view, not " + std::to_string(views));
  }
  PromptWriter words(tokenizer);
  const std::vector<int> none(static_cast<std::size_t>(views), 0);
  return static_cast<int>(words.views(none).take().ids.size()) + views * kViewTokens;
}

}  // namespace lapidary
