#include "runtime/prompt_images.h"

#include <algorithm>
#include <string>

#include "lapidary/error.h"

namespace lapidary {
namespace {

[[noreturn]] void refuse(const std::string& message) { throw Error(ErrorCode::kUsage, message); }

/// "image 2 of the prompt"
std::string name_of(std::size_t image) {
  return "image " + std::to_string(image + 1) + " of the prompt";
}

void check_features(const Model& model, const ImageFeatures& image, std::size_t index) {
  const int tokens = model.vision()->tokens;
  const int width = model.info().width;
  if (image.tokens != tokens) {
    refuse(name_of(index) + " has " + std::to_string(image.tokens) + " tokens, expected " +
           std::to_string(tokens));
  }
  if (image.width != width) {
    refuse(name_of(index) + " has features of width " + std::to_string(image.width) +
           ", but the model's is " + std::to_string(width));
  }
  const std::size_t expected = static_cast<std::size_t>(tokens) * static_cast<std::size_t>(width);
  const std::size_t found = image.values == nullptr ? 0 : image.values->size();
  if (found != expected) {
    refuse(name_of(index) + " has " + std::to_string(found) + " values, expected " +
           std::to_string(expected));
  }
}

}  // namespace

void place_images(const Model& model, std::span<const TokenId> ids,
                  std::span<const ImageFeatures> images, int position,
                  std::vector<ImageRows>& out) {
  out.clear();
  if (!images.empty() && model.vision() == nullptr) {
    refuse("the prompt has " + std::to_string(images.size()) +
           " images, but the model was loaded without a vision file");
  }
  for (std::size_t i = 0; i < images.size(); ++i) check_features(model, images[i], i);
  const TokenId image_token = model.tokenizer().image_token();
  if (image_token < 0) {
    if (images.empty()) return;
    refuse("the prompt has " + std::to_string(images.size()) +
           " images, but the model's vocabulary has no image tokens");
  }
  std::size_t next = 0;
  for (auto begin = std::ranges::find(ids, image_token); begin != ids.end();) {
    const auto end = std::find_if(begin, ids.end(), [&](TokenId id) { return id != image_token; });
    const auto place = begin - ids.begin();
    const auto run = static_cast<int>(end - begin);
    int filled = 0;
    for (; filled < run && next < images.size(); ++next) {
      const ImageFeatures& image = images[next];
      out.push_back(
          {position + static_cast<int>(place) + filled, image.tokens, image.values->data()});
      filled += image.tokens;
    }
    if (filled != run) {
      refuse("the prompt has " + std::to_string(run) + " image tokens at place " +
             std::to_string(place) + ", but images for " + std::to_string(filled));
    }
    begin = std::find(end, ids.end(), image_token);
  }
  if (next != images.size()) {
    refuse("the prompt has " + std::to_string(images.size()) + " images, but image tokens for " +
           std::to_string(next));
  }
}

void drop_front(Prompt& prompt, std::size_t count, TokenId image_token) {
  const auto end = prompt.ids.begin() + static_cast<std::ptrdiff_t>(count);
  auto tokens = std::count(prompt.ids.begin(), end, image_token);
  auto image = prompt.images.begin();
  for (; tokens > 0 && image != prompt.images.end(); ++image) tokens -= image->tokens;
  prompt.images.erase(prompt.images.begin(), image);
  prompt.ids.erase(prompt.ids.begin(), end);
}

}  // namespace lapidary
