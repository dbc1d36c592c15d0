#pragma once

#include <atomic>
#include <span>
#include <string>
#include <string_view>

#include "lapidary/prompt.h"

namespace lapidary {

/// The control token called `name`, or -1.
TokenId find_marker(const Tokenizer& tokenizer, std::string_view name);

/// Puts a prompt together: control tokens as ids, and all text between two of them as one string
/// for SentencePiece, the template's own included ("user\n" before "\n\n" is one token of three
/// newlines).
class PromptWriter {
 public:
  /// With `parse_control`, control tokens written in the text are read as such.
  explicit PromptWriter(const Tokenizer& tokenizer, const std::atomic<bool>* cancel = nullptr,
                        bool parse_control = false)
      : tokenizer_(tokenizer), cancel_(cancel), parse_control_(parse_control) {}

  PromptWriter& control(TokenId id);

  /// The control token called `name`, or its name as text where the vocabulary has none.
  PromptWriter& marker(std::string_view name);

  PromptWriter& text(std::string_view text);

  PromptWriter& picture(const EncodedImage& image);

  /// The whole picture, and the crops with the words that Gemma's own processor puts before them:
  /// how many soft tokens each has.
  PromptWriter& views(std::span<const int> tokens);

  Prompt take();

 private:
  PromptWriter& view(int tokens);
  void check_views(std::size_t views) const;
  void flush();

  const Tokenizer& tokenizer_;
  const std::atomic<bool>* cancel_;
  bool parse_control_;
  std::string pending_;
  Prompt prompt_;
};

}  // namespace lapidary
