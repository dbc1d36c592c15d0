#include "model/config.h"

#include <cmath>
#include <string>

#include "base/format.h"
#include "base/printable.h"
#include "formats/metadata.h"
#include "lapidary/error.h"

namespace lapidary {
namespace {

/// Every sixth layer is global unless the source says otherwise: another number, or an integer a
/// layer (not 0: local).
std::vector<bool> read_pattern(const WeightSource& source, int layers, int window) {
  std::vector<bool> local(static_cast<std::size_t>(layers), false);
  if (window == 0) return local;
  constexpr Key kKey = Key::kSlidingPattern;
  if (source.array_size(kKey)) {
    require_count(source, kKey, local.size(), "layers");
    const PagedVector<std::int64_t> flags = required(source, kKey, source.find_ints(kKey));
    for (std::size_t i = 0; i < local.size(); ++i) local[i] = flags[i] != 0;
    return local;
  }
  const auto period = static_cast<std::size_t>(read_int(source, kKey, 1, 1 << 24, 6));
  for (std::size_t i = 0; i < local.size(); ++i) local[i] = (i + 1) % period != 0;
  return local;
}

void read_rope(const WeightSource& source, Config& config) {
  // Below 1, the turns of a long context are no floats.
  constexpr double kLow = 1, kHigh = 1e12;
  config.global_rope_base = read_float(source, Key::kRopeBase, kLow, kHigh, 1e6F);
  config.local_rope_base = read_float(source, Key::kLocalRopeBase, kLow, kHigh, 1e4F);
  const std::string type = source.find_string(Key::kRopeScaling).value_or("linear");
  if (type == "none") return;
  if (type != "linear") {
    fail_key(source, Key::kRopeScaling,
             " is '" + printable_value(type) + "', expected linear or none");
  }
  config.global_rope_factor = read_float(source, Key::kRopeFactor, 1e-3, 1e6, 1.0F);
}

/// What queries are divided by the square root of. Of the files that do not say it, the 27B's is
/// d / heads; 62 layers whose heads do not fill the width are the sign of it.
float read_query_scalar(const WeightSource& source, const Config& c) {
  const bool by_width = c.layers == 62 && c.width / c.query_heads != c.head_dim;
  return read_float(source, Key::kQueryScalar, 1, 65536,
                    static_cast<float>(by_width ? c.width / c.query_heads : c.head_dim));
}

int read_vocabulary_size(const WeightSource& source) {
  constexpr TensorName kEmbedding{Part::kEmbedding};
  const TensorInfo* embedding = source.find(kEmbedding);
  if (embedding == nullptr) throw Error(ErrorCode::kFile, source.where(kEmbedding) + " is missing");
  const std::uint64_t rows = embedding->rows();
  if (rows >= 4 && rows <= (1U << 24)) return static_cast<int>(rows);
  throw Error(ErrorCode::kFile,
              format("{} has {} rows, expected 4 to 16777216", source.where(*embedding), rows));
}

}  // namespace

Config read_config(const WeightSource& source) {
  Config c;
  c.layers = read_int(source, Key::kLayers, 1, 512);
  c.width = read_int(source, Key::kWidth, 32, 65536);
  c.feed_forward = read_int(source, Key::kFeedForward, 32, 1 << 20);
  c.query_heads = read_int(source, Key::kHeads, 1, 1024);
  c.kv_heads = read_int(source, Key::kKvHeads, 1, 1024, c.query_heads);
  c.head_dim = read_int(source, Key::kHeadDim, 32, 1024, 256);
  c.trained_context = read_int(source, Key::kTrainedContext, 1, 1 << 24);
  c.sliding_window = read_int(source, Key::kSlidingWindow, 0, 1 << 24, 0);
  const int value_dim = read_int(source, Key::kValueDim, 32, 1024, c.head_dim);
  if (value_dim != c.head_dim) {
    fail_key(source, Key::kValueDim,
             format(" is {}, expected {}, {}", value_dim, source.name(Key::kHeadDim), c.head_dim));
  }
  require_multiple(source, Key::kHeads, c.query_heads, c.kv_heads, source.name(Key::kKvHeads));
  require_multiple(source, Key::kWidth, c.width, 32);
  require_multiple(source, Key::kFeedForward, c.feed_forward, 32);
  require_multiple(source, Key::kHeadDim, c.head_dim, 32);
  c.norm_epsilon = read_float(source, Key::kNormEpsilon, 1e-30, 1, c.norm_epsilon);
  read_rope(source, c);
  c.local = read_pattern(source, c.layers, c.sliding_window);
  c.query_scale = 1.0F / std::sqrt(read_query_scalar(source, c));
  // Only 0 itself means none.
  if (source.find_float(Key::kLogitSoftcap).value_or(0.0) != 0)
    c.logit_softcap = read_float(source, Key::kLogitSoftcap, 1e-3, 1e6, 0.0F);
  c.vocabulary = read_vocabulary_size(source);
  return c;
}

}  // namespace lapidary
