#include "vision/encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "vision/encoder_buffers.h"

namespace lapidary {
namespace {

using kernels::kBfpBlock;
using kernels::kPanelRows;

constexpr int kRowsPerTask = 16;  // Tokens that one task norms.
constexpr int kTaskColumns = kBfpBlock;

int parts(int n, int step) { return (n + step - 1) / step; }

template <class T>
Rows<T> rows_of(T* data, int width) {
  return {data, static_cast<std::size_t>(width)};
}

}  // namespace

/// One picture's way through the encoder. Its methods are the phases; each ends with a barrier.
class Encoder::Pass {
 public:
  Pass(const VisionWeights& weights, EncoderBuffers& buffers)
      : w_(weights), c_(weights.config), kernels_(*weights.kernels), b_(buffers) {}

  /// x = patches · Wᵀ + bias + positions
  void embed(Worker& worker, std::span<const std::uint8_t> rgb) {
    worker.for_each(parts(c_.patches(), kRowsPerTask), [&](int task) {
      float* pixels = scratch(worker).row;
      for_rows(task, [&](int patch) {
        read_patch(rgb, patch, pixels);
        quantize_row(kernels_, pixels, b_.pixels, patch);
        std::copy_n(rows_of(w_.positions, c_.width)[patch], c_.width, b_.x[patch]);
      });
    });
    add_product(worker, b_.pixels, w_.patch);
  }

  void layer(Worker& worker, const VisionLayer& layer) {
    norm(worker, layer.attention_norm);
    project_heads(worker, layer);
    attend(worker);
    add_product(worker, b_.attended, layer.output);
    norm(worker, layer.ffn_norm);
    feed_forward(worker, layer.up);
    add_product(worker, b_.hidden, layer.down);
  }

  /// out = rmsnorm(4×4 averages of LN(x)) · W
  void project(Worker& worker, float* out) {
    worker.for_each(c_.tokens(), [&](int token) { pool(scratch(worker), token); });
    const Rows<float> rows = rows_of(out, w_.projection.rows);
    for_products(worker, b_.pooled, w_.projection, c_.tokens(), [&](const Piece& piece) {
      std::copy_n(piece.values, piece.columns, rows[piece.token] + piece.column);
    });
  }

 private:
  /// Some tokens by some columns of a product: what one task computes.
  struct Tile {
    int token, tokens;
    int panel, panels;
    int column, columns;  // Of the matrix' rows, those that exist.
    int stride;           // Floats between tokens in the scratch.
  };

  /// [tile.tokens][tile.columns], in `own`.
  Rows<float> multiply(EncoderScratch& own, const BfpRows& input, const BfpMatrix& m,
                       const Tile& tile) const {
    const Rows<float> out = rows_of(own.out, tile.stride);
    bfp_panels(kernels_, input, tile.token, tile.tokens, m, tile.panel, tile.panel + tile.panels,
               out);
    return out;
  }

  /// One token's share of a tile that has been multiplied.
  struct Piece {
    int token;
    int column, columns;
    float* values;
  };

  /// input · Wᵀ for tokens 0 … tokens-1, which `use` gets piece by piece. Tasks run through the
  /// groups of columns first, so that a block of tokens stays in cache.
  template <class F>
  void for_products(Worker& worker, const BfpRows& input, const BfpMatrix& m, int tokens, F&& use) {
    constexpr int kPanels = kTaskColumns / kPanelRows;
    const int groups = parts(m.panel_count(), kPanels);
    worker.for_each(groups * parts(tokens, kTokenBlock), [&](int task) {
      Tile tile{};
      tile.token = task / groups * kTokenBlock;
      tile.tokens = std::min(kTokenBlock, tokens - tile.token);
      tile.panel = task % groups * kPanels;
      tile.panels = std::min(kPanels, m.panel_count() - tile.panel);
      tile.column = tile.panel * kPanelRows;
      tile.columns = std::min(kTaskColumns, m.rows - tile.column);
      tile.stride = kTaskColumns;
      const Rows<float> product = multiply(scratch(worker), input, m, tile);
      for (int t = 0; t < tile.tokens; ++t)
        use(Piece{tile.token + t, tile.column, tile.columns, product[t]});
    });
  }

  EncoderScratch& scratch(const Worker& worker) {
    return b_.scratch[static_cast<std::size_t>(worker.index())];
  }

  template <class F>
  void for_rows(int task, F&& f) const {
    const int end = std::min((task + 1) * kRowsPerTask, c_.patches());
    for (int row = task * kRowsPerTask; row < end; ++row) f(row);
  }

  /// One patch as the convolution's weights lie: [channel][y][x], (value / 255 - mean) / deviation.
  void read_patch(std::span<const std::uint8_t> rgb, int patch, float* out) const {
    const int side = c_.patches_per_side();
    const Rows<const std::uint8_t> image = rows_of(rgb.data(), 3 * c_.image_size);
    const int top = patch / side * c_.patch_size, left = patch % side * c_.patch_size;
    for (int channel = 0; channel < 3; ++channel) {
      const auto i = static_cast<std::size_t>(channel);
      for (int y = 0; y < c_.patch_size; ++y) {
        const std::uint8_t* row = image[top + y] + 3 * left + channel;
        for (int x = 0; x < c_.patch_size; ++x)
          *out++ = (static_cast<float>(row[3 * x]) / 255.0F - c_.mean[i]) / c_.deviation[i];
      }
    }
  }

  /// normed = LN(x)
  void norm(Worker& worker, const LayerNorm& n) {
    worker.for_each(parts(c_.patches(), kRowsPerTask), [&](int task) {
      float* row = scratch(worker).row;
      for_rows(task, [&](int t) {
        kernels_.layernorm(b_.x[t], n.weight, n.bias, c_.width, c_.norm_epsilon, row);
        quantize_row(kernels_, row, b_.normed, t);
      });
    });
  }

  /// x += input · Wᵀ + bias
  void add_product(Worker& worker, const BfpRows& input, const BiasedMatrix& m) {
    for_products(worker, input, m.matrix, c_.patches(), [&](const Piece& piece) {
      kernels_.add_bias(b_.x[piece.token] + piece.column, piece.values, m.bias + piece.column,
                        piece.columns);
    });
  }

  /// hidden = gelu_tanh(normed · Wᵀ + bias); a group of columns is one block of it.
  void feed_forward(Worker& worker, const BiasedMatrix& m) {
    static_assert(kTaskColumns == kBfpBlock);
    for_products(worker, b_.normed, m.matrix, c_.patches(), [&](const Piece& piece) {
      kernels_.bias_gelu(piece.values, m.bias + piece.column, piece.columns);
      kernels_.bfp_quantize(piece.values, piece.columns, kBfpBlock,
                            b_.hidden.values[piece.token] + piece.column,
                            b_.hidden.scales[piece.token] + piece.column / kBfpBlock);
    });
  }

  /// Queries, keys and values of all heads, each rounded as attention reads it. One task: some
  /// heads of one of the three, for a block of tokens.
  void project_heads(Worker& worker, const VisionLayer& layer) {
    const BiasedMatrix* matrices[] = {&layer.query, &layer.key, &layer.value};
    const int heads = heads_per_task(c_);
    const int groups = c_.heads / heads;
    worker.for_each(3 * groups * parts(c_.patches(), kTokenBlock), [&](int task) {
      const int part = task % 3, group = task / 3 % groups;
      const BiasedMatrix& m = *matrices[part];
      Tile tile{};
      tile.token = task / (3 * groups) * kTokenBlock;
      tile.tokens = std::min(kTokenBlock, c_.patches() - tile.token);
      tile.column = group * heads * c_.head_dim;
      tile.columns = heads * c_.head_dim;
      tile.panel = tile.column / kPanelRows;
      tile.panels = parts(tile.columns, kPanelRows);
      tile.stride = tile.panels * kPanelRows;
      EncoderScratch& own = scratch(worker);
      const Rows<float> product = multiply(own, b_.normed, m.matrix, tile);
      for (int t = 0; t < tile.tokens; ++t) {
        for (int i = 0; i < tile.columns; ++i) product[t][i] += m.bias[tile.column + i];
      }
      for (int h = 0; h < heads; ++h) {
        const Rows<const float> rows{product.data + h * c_.head_dim, product.stride};
        const int head = group * heads + h;
        if (part == 0) store_queries(tile, head, rows);
        if (part == 1) store_keys(own, tile, head, rows);
        if (part == 2) store_values(tile, head, rows);
      }
    });
  }

  /// A head's columns of rows that have a scale for each.
  BfpRows head_of(const BfpRows& rows, int head) const {
    return {c_.head_dim,
            c_.head_dim,
            {rows.values.data + head * c_.head_dim, rows.values.stride},
            {rows.scales.data + head, rows.scales.stride}};
  }

  /// `rows` are [tile.tokens][head_dim].
  void store_queries(const Tile& tile, int head, const Rows<const float>& rows) {
    const float scale = 1.0F / std::sqrt(static_cast<float>(c_.head_dim));
    const BfpRows queries = head_of(b_.queries, head);
    for (int token = tile.token; token < tile.token + tile.tokens; ++token) {
      quantize_row(kernels_, rows[token - tile.token], queries, token);
      *queries.scales[token] *= scale;
    }
  }

  void store_keys(EncoderScratch& own, const Tile& tile, int head, const Rows<const float>& rows) {
    const BfpMatrix& keys = b_.heads[static_cast<std::size_t>(head)].keys;
    for (int t = 0; t < tile.tokens; t += kPanelRows) {
      const auto panel = static_cast<std::size_t>((tile.token + t) / kPanelRows);
      pack_bfp_panel(kernels_, rows[t], rows.stride, std::min(kPanelRows, tile.tokens - t),
                     c_.head_dim, c_.head_dim, keys.values + panel * keys.panel_values(),
                     keys.scales + panel * keys.panel_scales(), own.words);
    }
  }

  void store_values(const Tile& tile, int head, const Rows<const float>& rows) {
    const Segment segment = segment_of(tile.token);
    const BfpMatrix matrix = values_of(head, segment);
    const int key = tile.token - segment.first;  // Where a block begins.
    for (int p = 0; p < matrix.panel_count(); ++p) {
      const auto panel = static_cast<std::size_t>(p);
      kernels_.bfp_pack_columns(
          rows.data + p * kPanelRows, rows.stride, tile.tokens,
          matrix.values + panel * matrix.panel_values() + key * kPanelRows,
          matrix.scales + panel * matrix.panel_scales() + key / kBfpBlock * kPanelRows);
    }
  }

  /// Keys that attention looks at together.
  struct Segment {
    int first, keys;
  };
  Segment segment_of(int key) const {
    const int first = key / kKeySegment * kKeySegment;
    return {first, std::min(kKeySegment, c_.patches() - first)};
  }
  /// Their values, head_dim × keys.
  BfpMatrix values_of(int head, const Segment& s) const {
    const HeadCache& cache = b_.heads[static_cast<std::size_t>(head)];
    const int width = dim_panels(c_) * kPanelRows;
    return {c_.head_dim, s.keys, kBfpBlock, rows_of(cache.values, width)[s.first],
            rows_of(cache.value_scales, width)[s.first / kBfpBlock]};
  }

  /// attended = softmax(q kᵀ / sqrt(head_dim)) v, one task a block of queries of one head. The
  /// tasks of a head follow each other: its keys and values stay in cache.
  void attend(Worker& worker) {
    const int blocks = parts(c_.patches(), kQueryBlock);
    worker.for_each(c_.heads * blocks, [&](int task) {
      const int head = task / blocks, query = task % blocks * kQueryBlock;
      attend_block(scratch(worker), head, query, std::min(kQueryBlock, c_.patches() - query));
    });
  }

  void attend_block(EncoderScratch& own, int head, int query, int rows) {
    const BfpMatrix& keys = b_.heads[static_cast<std::size_t>(head)].keys;
    const BfpRows queries = head_of(b_.queries, head), attended = head_of(b_.attended, head);
    std::fill_n(own.maximum, rows, -std::numeric_limits<float>::infinity());
    std::fill_n(own.sum, rows, 0.0F);
    std::fill(own.attended[0], own.attended[rows], 0.0F);
    for (int key = 0; key < c_.patches(); key += kKeySegment) {
      const Segment segment = segment_of(key);
      const BfpMatrix values = values_of(head, segment);
      const int panel = segment.first / kPanelRows;
      bfp_panels(kernels_, queries, query, rows, keys, panel,
                 panel + parts(segment.keys, kPanelRows), own.scores);
      weigh(own, rows, segment.keys);
      bfp_panels(kernels_, own.weights, 0, rows, values, 0, values.panel_count(), own.attended,
                 true);
    }
    for (int r = 0; r < rows; ++r) {
      float* row = own.attended[r];
      const float inverse = 1.0F / own.sum[r];
      for (int d = 0; d < c_.head_dim; ++d) row[d] *= inverse;
      quantize_row(kernels_, row, attended, query + r);
    }
  }

  void weigh(EncoderScratch& own, int rows, int keys) {
    const int width = dim_panels(c_) * kPanelRows;
    for (int r = 0; r < rows; ++r) {
      const float decay = kernels_.bfp_softmax(own.scores[r], keys, own.maximum + r, own.sum + r,
                                               own.weights.values[r], own.weights.scales[r]);
      if (decay == 1.0F) continue;
      float* row = own.attended[r];
      for (int d = 0; d < width; ++d) row[d] *= decay;
    }
  }

  /// One soft token: the average of pool × pool normed patches, and its RMS norm.
  void pool(EncoderScratch& own, int token) {
    float* sum = own.out;  // [width] here
    std::fill_n(sum, c_.width, 0.0F);
    const int across = c_.tokens_per_side();
    for (int y = 0; y < c_.pool; ++y) {
      for (int x = 0; x < c_.pool; ++x) {
        const int patch =
            (token / across * c_.pool + y) * c_.patches_per_side() + token % across * c_.pool + x;
        kernels_.layernorm(b_.x[patch], w_.post_norm.weight, w_.post_norm.bias, c_.width,
                           c_.norm_epsilon, own.row);
        for (int i = 0; i < c_.width; ++i) sum[i] += own.row[i];
      }
    }
    const float count = static_cast<float>(c_.pool * c_.pool);
    float squares = 0.0F;
    for (int i = 0; i < c_.width; ++i) {
      sum[i] /= count;
      squares += sum[i] * sum[i];
    }
    constexpr float kEpsilon = 1e-6F;  // Gemma's, not the encoder's.
    const float scale = 1.0F / std::sqrt(squares / static_cast<float>(c_.width) + kEpsilon);
    for (int i = 0; i < c_.width; ++i) sum[i] *= scale * w_.soft_norm[i];
    quantize_row(kernels_, sum, b_.pooled, token);
  }

  const VisionWeights& w_;
  const VisionConfig& c_;
  const kernels::Kernels& kernels_;
  EncoderBuffers& b_;
};

std::uint64_t Encoder::memory_bytes(const VisionConfig& config, int threads) {
  return encoder_buffer_bytes(config, threads);
}

Encoder::Encoder(const VisionWeights& weights, Team& team)
    : w_(weights), team_(team), arena_(encoder_buffer_bytes(weights.config, team.threads())) {
  Layout layout(&arena_);
  buffers_ = std::make_unique<EncoderBuffers>(
      make_encoder_buffers(layout, weights.config, team.threads()));
}
Encoder::~Encoder() = default;

bool Encoder::encode(std::span<const std::uint8_t> rgb, std::span<float> out,
                     FunctionRef<bool(int layer)> after_layer, const std::atomic<bool>* cancel) {
  Pass pass(w_, *buffers_);
  team_.run([&](Worker& worker) { pass.embed(worker, rgb); }, cancel);
  for (int i = 0; i < w_.config.layers; ++i) {
    const VisionLayer& layer = w_.layers[static_cast<std::size_t>(i)];
    team_.run([&](Worker& worker) { pass.layer(worker, layer); }, cancel);
    if (!after_layer(i)) return false;
  }
  team_.run([&](Worker& worker) { pass.project(worker, out.data()); }, cancel);
  return true;
}

}  // namespace lapidary
