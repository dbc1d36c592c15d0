#pragma once

// The tiny model that sees, and pictures for its prompts.

#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "model_fixture.h"

namespace lapidary::testing {

/// 8 layers of which 7 are local, with windows of 64 positions; 256 tokens a picture.
inline const Model& vision_model() {
  static const Model model = Model::load(test_data("tiny-gemma3-text-bf16.gguf"),
                                         {.vision = test_data("tiny-gemma3-mmproj-f16.gguf")});
  return model;
}

/// Features that no picture has.
inline ImageFeatures random_features(std::mt19937& random) {
  const int tokens = vision_model().vision()->tokens, width = vision_model().info().width;
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(tokens * width));
  for (float& value : values) value = normal(random);
  return {tokens, width, std::make_shared<const std::vector<float>>(std::move(values))};
}

inline ImageFeatures random_features(unsigned seed) {
  std::mt19937 random(seed);
  return random_features(random);
}

/// In front of the id at `place`, which no other picture follows.
inline void insert_picture(Prompt& prompt, std::size_t place, const ImageFeatures& features) {
  prompt.ids.insert(prompt.ids.begin() + static_cast<std::ptrdiff_t>(place),
                    static_cast<std::size_t>(features.tokens),
                    vision_model().tokenizer().image_token());
  prompt.images.push_back(features);
}

}  // namespace lapidary::testing
