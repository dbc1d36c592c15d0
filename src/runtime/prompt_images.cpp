#include "runtime/prompt_images.h"

#include <algorithm>
#include <string>

#include "base/format.h"
#include "lapidary/error.h"

namespace lapidary {
namespace {

[[noreturn]] void refuse(const std::string& message) { throw Error(ErrorCode::kUsage, message); }

/// "image 2 of the prompt"
std::string name_of(std::size_t image) { return format("image {} of the prompt", image + 1); }

void check_features(const Model& model, const ImageFeatures& image, std::size_t index) {
  const int tokens = model.vision()->tokens;
  const int width = model.info().width;
  if (image.tokens != tokens) {
    refuse(format("{} has {} tokens, expected {}", name_of(index), image.tokens, tokens));
  }
  if (image.width != width) {
    refuse(format("{} has features of width {}, but the model's is {}", name_of(index), image.width,
                  width));
  }
  const std::size_t expected = static_cast<std::size_t>(tokens) * static_cast<std::size_t>(width);
  const std::size_t found = image.values == nullptr ? 0 : image.values->size();
  if (found != expected) {
    refuse(format("{} has {} values, expected {}", name_of(index), found, expected));
  }
}

}  // namespace

void place_images(const Model& model, std::span<const TokenId> ids,
                  std::span<const ImageFeatures> images, int position,
                  std::vector<ImageRows>& out) {
  if (!images.empty() && model.vision() == nullptr) {
    refuse(format("the prompt has {} images, but the model was loaded without a vision file",
                  images.size()));
  }
  for (std::size_t i = 0; i < images.size(); ++i) check_features(model, images[i], i);
  const TokenId image_token = model.tokenizer().image_token();
  if (image_token < 0) {
    if (images.empty()) return;
    refuse(format("the prompt has {} images, but the model's vocabulary has no image tokens",
                  images.size()));
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
      refuse(format("the prompt has {} image tokens at place {}, but images for {}", run, place,
                    filled));
    }
    begin = std::find(end, ids.end(), image_token);
  }
  if (next != images.size()) {
    refuse(format("the prompt has {} images, but image tokens for {}", images.size(), next));
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
