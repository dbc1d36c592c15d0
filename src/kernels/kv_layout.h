#pragma once

#include <cstddef>
#include <cstdint>

namespace lapidary::kernels {

inline constexpr int kKeyPanel = 16;       // Positions whose keys lie interleaved.
inline constexpr int kPagePositions = 64;  // Of a page, which holds one layer's keys and values.
inline constexpr int kPagePanels = kPagePositions / kKeyPanel;
inline constexpr int kMostHeadDim = 1024;
inline constexpr int kKvBlock = 32;  // Values of a key, or of a value, that share a scale.

/// How keys and values are kept.
enum class KvFormat : std::uint8_t {
  kBf16,  // Keys in panels [head_dim / 2][16 keys][2], values in [8 key pairs][head_dim][2].
  kInt8,  // Keys, rotated (Kernels::rotate_query), and values as int8 in panels of [head_dim / 32]
          // blocks. A block of keys is [32][16 keys], one of values [16 keys][32]; behind either
          // are sixteen bf16, the scale of each key.
};

/// Of KvFormat::kInt8.
inline constexpr std::size_t kKvBlockBytes = (kKvBlock + sizeof(std::uint16_t)) * kKeyPanel;

/// Bytes of the keys of a panel of one KV head, and of its values.
constexpr std::size_t kv_panel_bytes(KvFormat format, int head_dim) {
  switch (format) {
    case KvFormat::kBf16:
      return static_cast<std::size_t>(head_dim) * kKeyPanel * 2;
    case KvFormat::kInt8:
      return static_cast<std::size_t>(head_dim / kKvBlock) * kKvBlockBytes;
  }
  return 0;
}

/// Bytes of one KV head in a page: [kPagePanels] panels of keys, then as many of values.
constexpr std::size_t kv_head_bytes(KvFormat format, int head_dim) {
  return 2 * kPagePanels * kv_panel_bytes(format, head_dim);
}

/// How many values of a head are rotated together: the largest power of two in head_dim.
constexpr int rotated_together(int head_dim) { return head_dim & -head_dim; }

/// Where the keys and values of one KV head of a sequence's layer lie: those of position p in the
/// page that `pages` names at p / kPagePositions - first_page.
struct KvPages {
  const std::byte* data;  // Of page 0: where the head's part begins.
  std::size_t page_bytes;
  const std::int32_t* pages;
  std::int64_t first_page;

  const std::byte* keys(std::int64_t panel, std::size_t panel_bytes) const {
    const std::int64_t page = panel / kPagePanels;
    return data + static_cast<std::size_t>(pages[page - first_page]) * page_bytes +
           static_cast<std::size_t>(panel % kPagePanels) * panel_bytes;
  }
  const std::byte* values(std::int64_t panel, std::size_t panel_bytes) const {
    return keys(panel, panel_bytes) + kPagePanels * panel_bytes;
  }
};

}  // namespace lapidary::kernels
