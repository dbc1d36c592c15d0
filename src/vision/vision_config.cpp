#include "vision/vision_config.h"

#include <cmath>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "base/printable.h"
#include "lapidary/error.h"

namespace lapidary {
namespace {

[[noreturn]] void fail(const WeightSource& source, const std::string& what) {
  throw Error(ErrorCode::kFile, source.path() + ": " + what);
}

std::string key(const char* name) { return std::string("clip.vision.") + name; }

/// An integer key within [low, high]; `fallback` < 0 means that the key is required.
int read_int(const WeightSource& source, const char* name, int low, int high, int fallback = -1) {
  const std::optional<std::uint64_t> value = source.find_uint(key(name));
  if (!value) {
    if (fallback < 0) fail(source, "key " + key(name) + " is missing");
    return fallback;
  }
  if (*value < static_cast<std::uint64_t>(low) || *value > static_cast<std::uint64_t>(high)) {
    fail(source, "key " + key(name) + " is " + std::to_string(*value) + ", expected " +
                     std::to_string(low) + " to " + std::to_string(high));
  }
  return static_cast<int>(*value);
}

void require_multiple(const WeightSource& source, const char* name, int value, int of,
                      const char* of_name) {
  if (value % of == 0) return;
  fail(source, "key " + key(name) + " is " + std::to_string(value) + ", expected a multiple of " +
                   std::to_string(of) + ", " + of_name);
}

void require_text(const WeightSource& source, const std::string& name,
                  const std::optional<std::string>& found, const std::string& expected) {
  if (!found) fail(source, "key " + name + " is missing, expected \"" + expected + "\"");
  if (*found == expected) return;
  fail(source,
       "key " + name + " is \"" + printable_value(*found) + "\", expected \"" + expected + "\"" +
           (*found == "gemma3" ? " (this is the text part of a model, not its vision part)" : ""));
}

void check_kind(const WeightSource& source) {
  require_text(source, "general.architecture", source.find_string("general.architecture"), "clip");
  // Files that hold several encoders name the projector of each.
  const std::string own = key("projector_type");
  const std::optional<std::string> type = source.find_string(own);
  if (type) return require_text(source, own, type, "gemma3");
  require_text(source, "clip.projector_type", source.find_string("clip.projector_type"), "gemma3");
}

/// Three numbers, each above `low` and at most 1.
std::array<float, 3> read_colours(const WeightSource& source, const char* name, double low) {
  std::array<float, 3> out{0.5F, 0.5F, 0.5F};
  const std::optional<ArraySize> size = source.array_size(key(name));
  if (size && size->count != out.size()) {
    fail(source, "key " + key(name) + " has " + std::to_string(size->count) +
                     " values, expected one for each of 3 colours");
  }
  const std::optional<PagedVector<double>> values = source.find_floats(key(name));
  if (!values) return out;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double value = (*values)[i];
    if (!(value >= low && value <= 1.0)) {
      char text[80];
      std::snprintf(text, sizeof text, "%g, expected numbers from %g to 1", value, low);
      fail(source, "key " + key(name) + " holds " + text);
    }
    out[i] = static_cast<float>(value);
  }
  return out;
}

}  // namespace

VisionConfig read_vision_config(const WeightSource& source) {
  check_kind(source);
  VisionConfig c;
  c.image_size = read_int(source, "image_size", 1, 4096);
  c.patch_size = read_int(source, "patch_size", 1, 256);
  c.width = read_int(source, "embedding_length", 8, 1 << 14);
  c.feed_forward = read_int(source, "feed_forward_length", 8, 1 << 16);
  c.layers = read_int(source, "block_count", 1, 256);
  c.heads = read_int(source, "attention.head_count", 1, 256);
  c.text_width = read_int(source, "projection_dim", 32, 65536);
  c.pool = read_int(source, "projector.scale_factor", 1, 64, 4);
  require_multiple(source, "image_size", c.image_size, c.patch_size, "patch_size");
  require_multiple(source, "embedding_length", c.width, c.heads, "attention.head_count");
  c.head_dim = c.width / c.heads;
  if (c.patches_per_side() % c.pool != 0) {
    fail(source, "key " + key("image_size") + " gives " + std::to_string(c.patches_per_side()) +
                     " patches on a side, expected a multiple of " + std::to_string(c.pool) +
                     ", projector.scale_factor");
  }
  // Gemma 3's prompts have 256 image tokens a view; what a session plans for follows from it.
  constexpr int kTokens = 256;
  if (c.tokens() != kTokens) {
    fail(source, "key " + key("image_size") + " gives " + std::to_string(c.tokens()) +
                     " soft tokens a picture, expected " + std::to_string(kTokens));
  }
  c.norm_epsilon =
      read_float(source, key("attention.layer_norm_epsilon"), 1e-30, 1, c.norm_epsilon);
  c.mean = read_colours(source, "image_mean", 0.0);
  c.deviation = read_colours(source, "image_std", 1.0 / 1024);
  return c;
}

}  // namespace lapidary
