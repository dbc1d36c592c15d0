#include "model/decoder.h"

#include <algorithm>
#include <cmath>

#include "model/weights.h"
#include "ops/tokens.h"

namespace lapidary {

namespace {

/// Radians a position, of each of the head_dim / 2 pairs.
std::vector<double> rope_frequencies(int head_dim, float base, float factor) {
  std::vector<double> out;
  out.reserve(static_cast<std::size_t>(head_dim / 2));
  for (int j = 0; j < head_dim / 2; ++j) {
    out.push_back(std::pow(static_cast<double>(base), -2.0 * j / head_dim) /
                  static_cast<double>(factor));
  }
  return out;
}

}  // namespace

std::uint64_t Decoder::memory_bytes(const Config& config, int context, int pass, int threads) {
  return state_bytes(config, context, pass, threads) +
         Head::memory_bytes(config.vocabulary, config.width, config.screened_head);
}

Decoder::Decoder(const Weights& weights, Team& team, int context, int pass)
    : w_(weights),
      c_(weights.config),
      kernels_(*weights.kernels),
      team_(team),
      arena_(state_bytes(c_, context, pass, team.threads()), Pages::kSmall),
      attention_(c_, kernels_, s_),
      head_(w_.head, c_.logit_softcap, kernels_),
      frequencies_{rope_frequencies(c_.head_dim, c_.global_rope_base, c_.global_rope_factor),
                   rope_frequencies(c_.head_dim, c_.local_rope_base, 1.0F)} {
  runs_.reserve(static_cast<std::size_t>(pass));
  Layout layout(&arena_);
  s_ = make_state(layout, c_, context, pass, team.threads());
}

void Decoder::forward(std::span<const Piece> pieces, const std::atomic<bool>* cancel) {
  runs_.clear();
  tokens_ = 0;
  for (const Piece& piece : pieces) place(piece);
  auto body = [&](Worker& worker) {
    embed(worker);
    for (int i = 0; i < c_.layers; ++i) {
      attention_block(worker, i, pieces);
      feed_forward_block(worker, i);
    }
  };
  team_.run(body, cancel);
}

void Decoder::logits(std::span<const float* const> rows, const Rows<float>& out) {
  auto body = [&](Worker& worker) {
    norm_for_head(worker, rows);
    head_.logits(worker, s_.final, static_cast<int>(rows.size()), out, scratch(worker).matmul);
  };
  team_.run(body);
}

bool Decoder::best_logits(std::span<const float* const> rows, const HeadQuery& query) {
  if (!head_.searchable()) return false;
  bool found = false;
  auto body = [&](Worker& worker) {
    norm_for_head(worker, rows);
    const bool all =
        head_.best(worker, s_.final, static_cast<int>(rows.size()), query, scratch(worker).matmul);
    if (worker.index() == 0) found = all;
  };
  team_.run(body);
  return found;
}

std::span<const ScoredRow> Decoder::best(int row) const { return head_.found(row); }
HeadStats Decoder::head_stats() const { return head_.stats(); }

/// Appends a piece to the runs and its tokens to those of the pass.
void Decoder::place(const Piece& piece) {
  const int count = static_cast<int>(piece.ids.size()), begin = tokens_;
  piece.table->prepare(piece.position, piece.position + count);
  runs_.push_back({piece.table, begin, count, piece.position});
  for (int i = 0; i < count; ++i, ++tokens_) {
    s_.ids[tokens_] = piece.ids[static_cast<std::size_t>(i)];
    s_.features[tokens_] = nullptr;
    s_.position[tokens_] = s_.last_key[tokens_] = piece.position + i;
    s_.table[tokens_] = piece.table;
  }
  for (const ImageRows& image : piece.images)
    place_image(image, begin + image.begin - piece.position, image.begin);
}

/// From token `begin` on, at `position`.
void Decoder::place_image(const ImageRows& image, int begin, int position) {
  const Rows<const float> features{image.features, static_cast<std::size_t>(c_.width)};
  for (int i = 0; i < image.count; ++i) {
    s_.features[begin + i] = features[i];
    s_.last_key[begin + i] = position + image.count - 1;
  }
}

/// Goes on with the rows from each piece's first_row on, which move to the front.
void Decoder::drop_first_rows(std::span<const Piece> pieces) {
  int kept = 0;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    Run& run = runs_[i];
    const int first = run.begin + pieces[i].first_row, end = run.begin + run.count;
    const auto keep = [&](auto* all) { std::copy(all + first, all + end, all + kept); };
    const auto keep_rows = [&](const Rows<float>& all) {
      std::copy(all[first], all[end], all[kept]);
    };
    keep_rows(s_.x);
    keep_rows(s_.q);
    keep(s_.position);
    keep(s_.last_key);
    run = {run.table, kept, end - first, s_.position[kept]};
    kept += end - first;
  }
  tokens_ = kept;
}

/// x = embed[token] · sqrt(d), or an image's row as it is, the angles of RoPE, and the first
/// layer's norm.
void Decoder::embed(Worker& worker) {
  const float scale = std::sqrt(static_cast<float>(c_.width));
  worker.for_each(tokens_, [&](int t) {
    float* x = s_.x[t];
    if (s_.features[t] != nullptr) {
      std::copy_n(s_.features[t], c_.width, x);
    } else {
      head_.copy_row(s_.ids[t], x);
      for (int i = 0; i < c_.width; ++i) x[i] *= scale;
    }
    set_angles(t);
    norm_for(w_.layers[0].attention_norm, t);
  });
}

void Decoder::set_angles(int t) {
  const auto position = static_cast<double>(s_.position[t]);
  for (int kind = 0; kind < 2; ++kind) {
    for (int j = 0; j < c_.head_dim / 2; ++j) {
      const double angle = position * frequencies_[kind][static_cast<std::size_t>(j)];
      s_.cosine[kind][t][j] = static_cast<float>(std::cos(angle));
      s_.sine[kind][t][j] = static_cast<float>(std::sin(angle));
    }
  }
}

void Decoder::attention_block(Worker& worker, int i, std::span<const Piece> pieces) {
  const LayerWeights& layer = w_.layers[static_cast<std::size_t>(i)];
  const LinearJob qkv[] = {{&layer.query, s_.q}, {&layer.key, s_.k}, {&layer.value, s_.v}};
  linear(worker, kernels_, s_.normed, tokens_, qkv, scratch(worker).matmul,
         [&](int t) { rotate_and_store(i, t); });
  // The keys and values of the last layer are all that the other rows are needed for.
  const auto drops = [](const Piece& piece) { return piece.first_row > 0; };
  if (i + 1 == c_.layers && std::ranges::any_of(pieces, drops))
    worker.barrier([&] { drop_first_rows(pieces); });
  attention_.run(worker, i, runs_);
  const LinearJob output[] = {{&layer.output, s_.projected}};
  linear(worker, kernels_, s_.attended, tokens_, output, scratch(worker).matmul,
         [&](int t) { add_normed(layer.post_attention_norm, layer.ffn_norm, t); });
}

void Decoder::feed_forward_block(Worker& worker, int i) {
  const LayerWeights& layer = w_.layers[static_cast<std::size_t>(i)];
  const bool last = i + 1 == c_.layers;
  const float* next = last ? nullptr : w_.layers[static_cast<std::size_t>(i) + 1].attention_norm;
  gated(worker, kernels_, s_.normed, tokens_, {layer.gate, layer.up}, scratch(worker),
        layer.down.quantized(), s_.hidden);
  const LinearJob down[] = {{&layer.down, s_.projected}};
  linear(worker, kernels_, s_.hidden, tokens_, down, scratch(worker).matmul,
         [&](int t) { add_normed(layer.post_ffn_norm, next, t); });
}

/// q, k = rope(rmsnorm_per_head(q, k)); q is scaled and rotated as the cache wants it; k and v go
/// there.
void Decoder::rotate_and_store(int i, int t) {
  const LayerWeights& layer = w_.layers[static_cast<std::size_t>(i)];
  const int kind = c_.local[static_cast<std::size_t>(i)] ? 1 : 0;
  const float* cosine = s_.cosine[kind][t];
  const float* sine = s_.sine[kind][t];
  const PageTable& table = *s_.table[t];
  for (int h = 0; h < c_.query_heads; ++h) {
    float* q = s_.q[t] + h * c_.head_dim;
    kernels_.rmsnorm(q, layer.query_norm, c_.head_dim, c_.norm_epsilon, q);
    kernels_.rope(q, cosine, sine, c_.head_dim);
    for (int d = 0; d < c_.head_dim; ++d) q[d] *= c_.query_scale;
    kernels_.rotate_query(table.pool().format(), q, c_.head_dim);
  }
  for (int h = 0; h < c_.kv_heads; ++h) {
    float* k = s_.k[t] + h * c_.head_dim;
    kernels_.rmsnorm(k, layer.key_norm, c_.head_dim, c_.norm_epsilon, k);
    kernels_.rope(k, cosine, sine, c_.head_dim);
    if (table.has(i, s_.position[t])) continue;
    kernels_.store_kv(table.pool().format(), k, s_.v[t] + h * c_.head_dim, c_.head_dim,
                      table.head_at(i, h, s_.position[t]),
                      static_cast<int>(s_.position[t] % kernels::kPagePositions));
  }
}

/// h = rmsnorm(x, weight), as the matrices read it.
void Decoder::norm_for(const float* weight, int t) {
  kernels_.rmsnorm(s_.x[t], weight, c_.width, c_.norm_epsilon, s_.normed.dense[t]);
  kernels_.quantize(s_.normed.dense[t], c_.width, s_.normed.quantized, t);
}

/// x += rmsnorm(projected, weight), then the norm in front of what comes next.
void Decoder::add_normed(const float* weight, const float* next, int t) {
  kernels_.rmsnorm_add(s_.projected[t], weight, c_.width, c_.norm_epsilon, s_.x[t]);
  if (next != nullptr) norm_for(next, t);
}

/// The last norm of `rows`, as the head reads them.
void Decoder::norm_for_head(Worker& worker, std::span<const float* const> rows) {
  worker.for_each(static_cast<int>(rows.size()), [&](int t) {
    kernels_.rmsnorm(rows[static_cast<std::size_t>(t)], w_.output_norm, c_.width, c_.norm_epsilon,
                     s_.final.dense[t]);
    head_.quantize(s_.final, t);
  });
}

const GatedScratch& Decoder::scratch(const Worker& worker) const {
  return s_.scratch[static_cast<std::size_t>(worker.index())].gated;
}

}  // namespace lapidary
