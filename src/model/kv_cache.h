#pragma once

#include <cstdint>
#include <vector>

#include "base/memory.h"
#include "model/config.h"

namespace lapidary {

/// Keys and values of one sequence in bf16, in panels of kKeyPanel positions (kernels.h,
/// AttentionArgs). Global layers hold the whole context; local ones a ring of window + chunk
/// positions. Pages are taken as they are first written.
class KvCache {
 public:
  KvCache(const Config& config, int context, int chunk);

  struct Head {
    std::uint16_t* keys;
    std::uint16_t* values;
    int panels;  // The ring: panel p lies at p % panels.
  };
  Head head(int layer, int kv_head) const;

  /// Stores one position's key and value, head_dim floats each, rounded to bf16.
  void write(int layer, int kv_head, std::int64_t position, const float* key, const float* value);

 private:
  struct Layer {
    std::uint16_t* data;
    int panels;
  };
  int head_dim_;
  std::vector<Layer> layers_;
  HugeBuffer buffer_;
};

/// Bytes of keys and values at `tokens` tokens when prompts come in chunks of `chunk`.
std::uint64_t kv_cache_bytes(const Config& config, int tokens, int chunk, bool global_only = false);

/// Panels that a layer holds for `tokens` positions.
int kv_panels(const Config& config, bool local, int tokens, int chunk);

}  // namespace lapidary
