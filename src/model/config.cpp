#include "model/config.h"

#include <cmath>
#include <string>

#include "base/printable.h"
#include "lapidary/error.h"

namespace lapidary {
namespace {

[[noreturn]] void fail(const WeightSource& source, const std::string& what) {
  throw Error(ErrorCode::kFile, source.path() + ": " + what);
}

std::string key(const char* name) { return std::string("gemma3.") + name; }

/// An integer key within [low, high]; `fallback` < 0 means that the key is required.
int read_int(const WeightSource& source, const char* name, int low, int high, int fallback = -1) {
  const auto value = source.find_uint(key(name));
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

void require_multiple(const WeightSource& source, const char* name, int value, int of) {
  if (value % of != 0) {
    fail(source, "key " + key(name) + " is " + std::to_string(value) + ", expected a multiple of " +
                     std::to_string(of));
  }
}

/// Every sixth layer is global unless the file says otherwise: an integer, or one boolean a layer
/// (true: local).
std::vector<bool> read_pattern(const WeightSource& source, int layers, int window) {
  std::vector<bool> local(static_cast<std::size_t>(layers), false);
  if (window == 0) return local;
  const std::string name = key("attention.sliding_window_pattern");
  if (const auto size = source.array_size(name)) {
    if (size->count != local.size()) {
      fail(source, "key " + name + " has " + std::to_string(size->count) +
                       " entries, expected one a layer");
    }
    const PagedVector<std::int64_t> flags =
        source.find_ints(name).value_or(PagedVector<std::int64_t>{});
    for (std::size_t i = 0; i < local.size(); ++i) local[i] = flags[i] != 0;
    return local;
  }
  const std::uint64_t period = source.find_uint(name).value_or(6);
  if (period == 0) fail(source, "key " + name + " is 0");
  for (std::size_t i = 0; i < local.size(); ++i) local[i] = (i + 1) % period != 0;
  return local;
}

void read_rope(const WeightSource& source, Config& config) {
  // Below 1, the turns of a long context are no floats.
  constexpr double kLow = 1, kHigh = 1e12;
  config.global_rope_base = read_float(source, key("rope.freq_base"), kLow, kHigh, 1e6F);
  config.local_rope_base = read_float(source, key("rope.freq_base_swa"), kLow, kHigh, 1e4F);
  const std::string type = source.find_string(key("rope.scaling.type")).value_or("linear");
  if (type == "none") return;
  if (type != "linear") {
    fail(source, "key " + key("rope.scaling.type") + " is '" + printable_value(type) +
                     "', expected linear or none");
  }
  // Old converters had a key of their own for it.
  const float old = read_float(source, key("rope.scale_linear"), 1e-3, 1e6, 1.0F);
  config.global_rope_factor = read_float(source, key("rope.scaling.factor"), 1e-3, 1e6, old);
}

}  // namespace

Config read_config(const WeightSource& source) {
  Config c;
  c.layers = read_int(source, "block_count", 1, 512);
  c.width = read_int(source, "embedding_length", 32, 65536);
  c.feed_forward = read_int(source, "feed_forward_length", 32, 1 << 20);
  c.query_heads = read_int(source, "attention.head_count", 1, 1024);
  c.kv_heads = read_int(source, "attention.head_count_kv", 1, 1024, c.query_heads);
  c.head_dim = read_int(source, "attention.key_length", 32, 1024, 256);
  c.trained_context = read_int(source, "context_length", 1, 1 << 24);
  c.sliding_window = read_int(source, "attention.sliding_window", 0, 1 << 24, 0);
  const int value_dim = read_int(source, "attention.value_length", 32, 1024, c.head_dim);
  if (value_dim != c.head_dim) {
    fail(source, "key " + key("attention.value_length") + " is " + std::to_string(value_dim) +
                     ", expected key_length, " + std::to_string(c.head_dim));
  }
  if (c.query_heads % c.kv_heads != 0) {
    fail(source, "key " + key("attention.head_count") + " is " + std::to_string(c.query_heads) +
                     ", expected a multiple of head_count_kv, " + std::to_string(c.kv_heads));
  }
  require_multiple(source, "embedding_length", c.width, 32);
  require_multiple(source, "feed_forward_length", c.feed_forward, 32);
  require_multiple(source, "attention.key_length", c.head_dim, 32);
  c.norm_epsilon =
      read_float(source, key("attention.layer_norm_rms_epsilon"), 1e-30, 1, c.norm_epsilon);
  read_rope(source, c);
  c.local = read_pattern(source, c.layers, c.sliding_window);
  // The 27B scales by d / heads, in no key of its file; 62 layers whose heads do not fill the width
  // are the sign of it.
  const bool by_width = c.layers == 62 && c.width / c.query_heads != c.head_dim;
  c.query_scale =
      1.0F / std::sqrt(static_cast<float>(by_width ? c.width / c.query_heads : c.head_dim));
  // Only 0 itself means none.
  const std::string cap = key("final_logit_softcapping");
  if (source.find_float(cap).value_or(0.0) != 0)
    c.logit_softcap = read_float(source, cap, 1e-3, 1e6, 0.0F);
  const TensorInfo* embedding = source.find("token_embd.weight");
  if (embedding == nullptr) fail(source, "tensor token_embd.weight is missing");
  if (embedding->rows() < 4 || embedding->rows() > (1U << 24)) {
    fail(source, "tensor token_embd.weight has " + std::to_string(embedding->rows()) +
                     " rows, expected 4 to 16777216");
  }
  c.vocabulary = static_cast<int>(embedding->rows());
  return c;
}

}  // namespace lapidary
