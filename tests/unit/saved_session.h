#pragma once

// What the tests of saved sessions share: prompts with pictures of random features, and sessions
// that have gone back and forth.

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "file_folder.h"
#include "vision_fixture.h"

namespace lapidary::testing {

inline constexpr int kPictureTokens = 256;

/// Draws prompts.
class Prompts {
 public:
  explicit Prompts(unsigned seed) : random_(seed) {}

  int number(int least, int most) { return std::uniform_int_distribution(least, most)(random_); }

  std::vector<TokenId> text(int count) {
    std::vector<TokenId> ids(static_cast<std::size_t>(count));
    for (TokenId& id : ids) id = number(300, 1500);
    return ids;
  }

  /// A picture between two texts.
  Prompt picture(int before, int behind) {
    Prompt prompt{text(before), {random_features(random_)}};
    prompt.ids.insert(prompt.ids.end(), kPictureTokens, vision_model().tokenizer().image_token());
    const std::vector<TokenId> rest = text(behind);
    prompt.ids.insert(prompt.ids.end(), rest.begin(), rest.end());
    return prompt;
  }

 private:
  std::mt19937 random_;
};

/// A session, and the prompt that a fresh one would have to compute to be the same.
struct Tracked {
  Session session;
  std::vector<ImageFeatures> images = {};

  void append(const Prompt& prompt) {
    session.append(prompt);
    images.insert(images.end(), prompt.images.begin(), prompt.images.end());
  }

  Prompt prompt() const {
    const auto ids = session.ids();
    const auto tokens =
        std::count(ids.begin(), ids.end(), vision_model().tokenizer().image_token());
    return {{ids.begin(), ids.end()}, {images.begin(), images.begin() + tokens / kPictureTokens}};
  }

  /// Goes back to `position`, or to where a picture that has it begins.
  int rewind(int position) {
    const auto ids = session.ids();
    const TokenId image = vision_model().tokenizer().image_token();
    while (position > 0 && position < static_cast<int>(ids.size()) &&
           ids[static_cast<std::size_t>(position)] == image &&
           ids[static_cast<std::size_t>(position) - 1] == image)
      --position;
    const int left = session.rewind(position);
    images = prompt().images;
    return left;
  }

  std::uint64_t logits() { return hash_bits(session.logits()); }
};

/// The logits behind `prompt` of a session that has done nothing else.
inline std::uint64_t fresh_logits(const Prompt& prompt, KvType kv = KvType::kBf16) {
  Session session(vision_model(), {.context = 4096, .kv = kv});
  session.append(prompt);
  return hash_bits(session.logits());
}

/// Some steps of a conversation: texts, pictures, drawn tokens, ways back.
inline void wander(Tracked& tracked, Prompts& prompts, int steps) {
  for (int i = 0; i < steps; ++i) {
    const int position = tracked.session.position();
    const int room = tracked.session.context() - position;
    const int step = prompts.number(0, 9);
    if (room < 400 || (step >= 8 && position > 0)) {
      tracked.rewind(prompts.number(0, position));
    } else if (step < 4) {
      tracked.append({prompts.text(prompts.number(1, 150)), {}});
    } else if (step < 6) {
      tracked.append(prompts.picture(prompts.number(1, 40), prompts.number(0, 40)));
    } else if (step < 7 && position > 0) {
      GenerateOptions options{.max_tokens = prompts.number(1, 12)};
      options.sampling.temperature = 1;
      options.sampling.seed = 7;
      tracked.session.generate(options);
    } else {
      tracked.session.pin();
    }
  }
}

}  // namespace lapidary::testing
