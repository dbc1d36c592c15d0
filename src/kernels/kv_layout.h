#pragma once

#include <cstddef>
#include <cstdint>

namespace lapidary::kernels {

inline constexpr int kKeyPanel = 16;        // Positions whose keys lie interleaved.
inline constexpr int kPagePositions = 128;  // Of a page, which holds one layer's keys and values.
inline constexpr int kPagePanels = kPagePositions / kKeyPanel;
inline constexpr int kMostHeadDim = 1024;

/// How keys and values are kept.
enum class KvFormat : std::uint8_t {
  kBf16,  // Keys in panels [head_dim / 2][16 keys][2], values in [8 key pairs][head_dim][2].
  kInt8,  // Keys, rotated (Kernels::rotate_query), and values as int8, in panels of blocks. A block
          // of keys is [kKeyBlock][16 keys], one of values [16 keys][kValueBlock]; behind either
          // are sixteen bf16, the scale of each key.
};

// Values of KvFormat::kInt8 that share a scale, of a key and of a value, and what sixteen take.
inline constexpr int kKeyBlock = 16, kValueBlock = 32;
inline constexpr std::size_t kKeyBlockBytes = (kKeyBlock + sizeof(std::uint16_t)) * kKeyPanel;
inline constexpr std::size_t kValueBlockBytes = (kValueBlock + sizeof(std::uint16_t)) * kKeyPanel;

/// Bytes of the keys of a panel of one KV head, and of its values.
struct KvPanelBytes {
  std::size_t keys, values;
};
constexpr KvPanelBytes kv_panel_bytes(KvFormat format, int head_dim) {
  const auto dim = static_cast<std::size_t>(head_dim);
  switch (format) {
    case KvFormat::kBf16:
      return {dim * kKeyPanel * 2, dim * kKeyPanel * 2};
    case KvFormat::kInt8:
      return {dim / kKeyBlock * kKeyBlockBytes, dim / kValueBlock * kValueBlockBytes};
  }
  return {};
}

/// Bytes of one KV head in a page: [kPagePanels] panels of keys, then as many of values.
constexpr std::size_t kv_head_bytes(KvFormat format, int head_dim) {
  const KvPanelBytes panel = kv_panel_bytes(format, head_dim);
  return kPagePanels * (panel.keys + panel.values);
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

  const std::byte* page_of(std::int64_t panel) const {
    return data + static_cast<std::size_t>(pages[panel / kPagePanels - first_page]) * page_bytes;
  }
  const std::byte* keys(std::int64_t panel, KvPanelBytes bytes) const {
    return page_of(panel) + static_cast<std::size_t>(panel % kPagePanels) * bytes.keys;
  }
  const std::byte* values(std::int64_t panel, KvPanelBytes bytes) const {
    return page_of(panel) + kPagePanels * bytes.keys +
           static_cast<std::size_t>(panel % kPagePanels) * bytes.values;
  }
};

}  // namespace lapidary::kernels
