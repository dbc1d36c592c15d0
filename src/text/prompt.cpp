#include "lapidary/prompt.h"

#include <string>
#include <vector>

#include "base/boundary.h"
#include "base/format.h"
#include "lapidary/error.h"
#include "text/prompt_writer.h"

namespace lapidary {
namespace {

/// Soft tokens of one view of a picture, in every Gemma 3.
constexpr int kViewTokens = 256;

}  // namespace

Prompt text_prompt(const Tokenizer& tokenizer, std::span<const ContentPart> parts,
                   bool parse_control, const std::atomic<bool>* cancel) {
  return at_boundary([&] {
    PromptWriter writer(tokenizer, cancel, parse_control);
    writer.control(tokenizer.bos());
    for (const ContentPart& part : parts) {
      if (part.image) {
        writer.picture(*part.image);
      } else {
        writer.text(part.text);
      }
    }
    return writer.take();
  });
}

Prompt text_prompt(const Tokenizer& tokenizer, std::string_view text, bool parse_control,
                   const std::atomic<bool>* cancel) {
  return at_boundary([&] {
    PromptWriter writer(tokenizer, cancel, parse_control);
    return writer.control(tokenizer.bos()).text(text).take();
  });
}

int image_prompt_tokens(const Tokenizer& tokenizer, int views) {
  constexpr int kMostViews = 4096;
  return at_boundary([&] {
    if (views < 1 || views > kMostViews) {
      throw Error(ErrorCode::kUsage,
                  format("a picture has 1 to {} views, not {}", kMostViews, views));
    }
    PromptWriter words(tokenizer);
    const std::vector<int> none(static_cast<std::size_t>(views), 0);
    return static_cast<int>(words.views(none).take().ids.size()) + views * kViewTokens;
  });
}

}  // namespace lapidary
