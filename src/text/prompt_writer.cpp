#include "text/prompt_writer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "lapidary/error.h"

namespace lapidary {

TokenId find_marker(const Tokenizer& tokenizer, std::string_view name) {
  const std::vector<TokenId> ids = tokenizer.encode(name, true);
  return ids.size() == 1 && tokenizer.is_control(ids.front()) ? ids.front() : -1;
}

PromptWriter& PromptWriter::control(TokenId id) {
  flush();
  prompt_.ids.push_back(id);
  return *this;
}

PromptWriter& PromptWriter::marker(std::string_view name) {
  const TokenId id = find_marker(tokenizer_, name);
  return id >= 0 ? control(id) : text(name);
}

PromptWriter& PromptWriter::text(std::string_view text) {
  pending_ += text;
  return *this;
}

PromptWriter& PromptWriter::picture(const EncodedImage& image) {
  std::vector<int> tokens;
  for (const ImageFeatures& view : image.features) tokens.push_back(view.tokens);
  prompt_.images.insert(prompt_.images.end(), image.features.begin(), image.features.end());
  return views(tokens);
}

PromptWriter& PromptWriter::views(std::span<const int> tokens) {
  check_views(tokens.size());
  if (tokens.size() == 1) return view(tokens.front());
  text("Here is the original image ").view(tokens.front());
  text(" and here are some crops to help you see better");
  for (const int crop : tokens.subspan(1)) text(" ").view(crop);
  return *this;
}

Prompt PromptWriter::take() {
  flush();
  return std::move(prompt_);
}

PromptWriter& PromptWriter::view(int tokens) {
  text("\n\n").control(tokenizer_.start_of_image());
  prompt_.ids.insert(prompt_.ids.end(), static_cast<std::size_t>(std::max(tokens, 0)),
                     tokenizer_.image_token());
  return control(tokenizer_.end_of_image()).text("\n\n");
}

void PromptWriter::check_views(std::size_t views) const {
  if (views == 0) throw Error(ErrorCode::kUsage, "a picture has no view that was encoded");
  if (tokenizer_.start_of_image() >= 0 && tokenizer_.end_of_image() >= 0 &&
      tokenizer_.image_token() >= 0) {
    return;
  }
  throw Error(ErrorCode::kUsage,
              "the model's vocabulary has no <start_of_image>, <end_of_image> and "
              "<image_soft_token>, which a prompt with pictures needs");
}

void PromptWriter::flush() {
  const std::vector<TokenId> part = tokenizer_.encode(pending_, parse_control_, cancel_);
  prompt_.ids.insert(prompt_.ids.end(), part.begin(), part.end());
  pending_.clear();
}

}  // namespace lapidary
