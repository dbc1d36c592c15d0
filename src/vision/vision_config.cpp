#include "vision/vision_config.h"

#include <optional>
#include <string>

#include "base/format.h"
#include "formats/metadata.h"

namespace lapidary {
namespace {

/// Three numbers, each from `low` to 1.
std::array<float, 3> read_colours(const WeightSource& source, Key key, double low) {
  std::array<float, 3> out{0.5F, 0.5F, 0.5F};
  require_count(source, key, out.size(), "colours");
  const std::optional<PagedVector<double>> values = source.find_floats(key);
  if (!values) return out;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double value = (*values)[i];
    if (!(value >= low && value <= 1.0)) {
      fail_key(source, key, format(" holds {:g}, expected numbers from {:g} to 1", value, low));
    }
    out[i] = static_cast<float>(value);
  }
  return out;
}

}  // namespace

VisionConfig read_vision_config(const WeightSource& source) {
  VisionConfig c;
  c.image_size = read_int(source, Key::kImageSize, 1, 4096);
  c.patch_size = read_int(source, Key::kPatchSize, 1, 256);
  c.width = read_int(source, Key::kWidth, 8, 1 << 14);
  c.feed_forward = read_int(source, Key::kFeedForward, 8, 1 << 16);
  c.layers = read_int(source, Key::kLayers, 1, 256);
  c.heads = read_int(source, Key::kHeads, 1, 256);
  c.text_width = read_int(source, Key::kTextWidth, 32, 65536);
  c.pool = read_int(source, Key::kPool, 1, 64, 4);
  require_multiple(source, Key::kImageSize, c.image_size, c.patch_size,
                   source.name(Key::kPatchSize));
  require_multiple(source, Key::kWidth, c.width, c.heads, source.name(Key::kHeads));
  c.head_dim = c.width / c.heads;
  if (c.patches_per_side() % c.pool != 0) {
    fail_key(source, Key::kImageSize,
             format(" gives {} patches on a side, expected a multiple of {}, {}",
                    c.patches_per_side(), c.pool, source.name(Key::kPool)));
  }
  // Gemma 3's prompts have 256 image tokens a view; what a session plans for follows from it.
  constexpr int kTokens = 256;
  if (c.tokens() != kTokens) {
    fail_key(source, Key::kImageSize,
             format(" gives {} soft tokens a picture, expected {}", c.tokens(), kTokens));
  }
  c.norm_epsilon = read_float(source, Key::kNormEpsilon, 1e-30, 1, c.norm_epsilon);
  c.mean = read_colours(source, Key::kImageMean, 0.0);
  c.deviation = read_colours(source, Key::kImageDeviation, 1.0 / 1024);
  return c;
}

}  // namespace lapidary
