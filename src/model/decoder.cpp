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

std::uint64_t Decoder::memory_bytes(const Config& config, int context, int chunk, int threads) {
  return kv_cache_bytes(config, context, chunk) + state_bytes(config, context, chunk, threads) +
         Head::memory_bytes(config.vocabulary, config.width, config.screened_head);
}

Decoder::Decoder(const Weights& weights, Team& team, int context, int chunk)
    : w_(weights),
      c_(weights.config),
      kernels_(*weights.kernels),
      team_(team),
      cache_(c_, context, chunk),
      arena_(state_bytes(c_, context, chunk, team.threads()), Pages::kSmall),
      attention_(c_, kernels_, s_),
      head_(w_.head, c_.logit_softcap, kernels_),
      frequencies_{rope_frequencies(c_.head_dim, c_.global_rope_base, c_.global_rope_factor),
                   rope_frequencies(c_.head_dim, c_.local_rope_base, 1.0F)} {
  runs_.reserve(kMostTogether);
  Layout layout(&arena_);
  s_ = make_state(layout, c_, context, chunk, team.threads());
}

void Decoder::forward(std::span<const std::int32_t> ids, int position,
                      std::span<const ImageRows> images, int first_row,
                      const std::atomic<bool>* cancel) {
  runs_.clear();
  runs_.push_back({&cache_, 0, static_cast<int>(ids.size()), position});
  first_row_ = first_row;
  place_tokens();
  place_images(images);
  compute(ids, cancel);
}

void Decoder::forward_together(std::span<Decoder* const> sequences,
                               std::span<const std::int32_t> ids, std::span<const int> positions) {
  runs_.clear();
  for (std::size_t i = 0; i < ids.size(); ++i)
    runs_.push_back({&sequences[i]->cache_, static_cast<int>(i), 1, positions[i]});
  first_row_ = 0;
  place_tokens();
  compute(ids, nullptr);
}

void Decoder::compute(std::span<const std::int32_t> ids, const std::atomic<bool>* cancel) {
  auto body = [&](Worker& worker) {
    embed(worker, ids);
    for (int i = 0; i < c_.layers; ++i) {
      attention_block(worker, i);
      feed_forward_block(worker, i);
    }
  };
  team_.run(body, cancel);
}

void Decoder::logits(int first, int count, std::span<float> out) {
  auto body = [&](Worker& worker) {
    norm_for_head(worker, first - first_row_, count);
    head_.logits(worker, s_.final, count, {out.data(), static_cast<std::size_t>(c_.vocabulary)},
                 scratch(worker).matmul);
  };
  team_.run(body);
}

bool Decoder::best_logits(int first, int count, const HeadQuery& query) {
  if (!head_.searchable()) return false;
  bool found = false;
  auto body = [&](Worker& worker) {
    norm_for_head(worker, first - first_row_, count);
    const bool all = head_.best(worker, s_.final, count, query, scratch(worker).matmul);
    if (worker.index() == 0) found = all;
  };
  team_.run(body);
  return found;
}

std::span<const ScoredRow> Decoder::best(int row) const { return head_.found(row); }
HeadStats Decoder::head_stats() const { return head_.stats(); }

void Decoder::place_tokens() {
  tokens_ = 0;
  for (const Run& run : runs_) {
    for (int i = 0; i < run.count; ++i, ++tokens_) {
      s_.features[tokens_] = nullptr;
      s_.position[tokens_] = s_.last_key[tokens_] = run.position + i;
      s_.cache[tokens_] = run.cache;
    }
  }
}

void Decoder::place_images(std::span<const ImageRows> images) {
  const std::int64_t begin = s_.position[0];
  for (const ImageRows& image : images) {
    const Rows<const float> features{image.features, static_cast<std::size_t>(c_.width)};
    const int end = image.begin + image.count;
    for (int p = image.begin; p < end; ++p) {
      s_.features[p - begin] = features[p - image.begin];
      s_.last_key[p - begin] = end - 1;
    }
  }
}

/// Of the one run, goes on with the rows from first_row_ on, which move to the front.
void Decoder::drop_first_rows() {
  const auto keep = [&](auto* all) { std::copy(all + first_row_, all + tokens_, all); };
  const auto keep_rows = [&](const Rows<float>& all) {
    std::copy(all[first_row_], all[tokens_], all[0]);
  };
  keep_rows(s_.x);
  keep_rows(s_.q);
  keep(s_.position);
  keep(s_.last_key);
  keep(s_.cache);
  tokens_ -= first_row_;
  runs_.front() = {runs_.front().cache, 0, tokens_, s_.position[0]};
}

/// x = embed[token] · sqrt(d), or an image's row as it is, the angles of RoPE, and the first
/// layer's norm.
void Decoder::embed(Worker& worker, std::span<const std::int32_t> ids) {
  const float scale = std::sqrt(static_cast<float>(c_.width));
  worker.for_each(tokens_, [&](int t) {
    float* x = s_.x[t];
    if (s_.features[t] != nullptr) {
      std::copy_n(s_.features[t], c_.width, x);
    } else {
      head_.copy_row(ids[static_cast<std::size_t>(t)], x);
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

void Decoder::attention_block(Worker& worker, int i) {
  const LayerWeights& layer = w_.layers[static_cast<std::size_t>(i)];
  const LinearJob qkv[] = {{&layer.query, s_.q}, {&layer.key, s_.k}, {&layer.value, s_.v}};
  linear(worker, kernels_, s_.normed, tokens_, qkv, scratch(worker).matmul,
         [&](int t) { rotate_and_store(i, t); });
  // The keys and values of the last layer are all that the rows without logits are needed for.
  if (i + 1 == c_.layers && first_row_ > 0) worker.barrier([&] { drop_first_rows(); });
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

/// q, k = rope(rmsnorm_per_head(q, k)); q is scaled; k and v go to the cache.
void Decoder::rotate_and_store(int i, int t) {
  const LayerWeights& layer = w_.layers[static_cast<std::size_t>(i)];
  const int kind = c_.local[static_cast<std::size_t>(i)] ? 1 : 0;
  const float* cosine = s_.cosine[kind][t];
  const float* sine = s_.sine[kind][t];
  for (int h = 0; h < c_.query_heads; ++h) {
    float* q = s_.q[t] + h * c_.head_dim;
    kernels_.rmsnorm(q, layer.query_norm, c_.head_dim, c_.norm_epsilon, q);
    kernels_.rope(q, cosine, sine, c_.head_dim);
    for (int d = 0; d < c_.head_dim; ++d) q[d] *= c_.query_scale;
  }
  for (int h = 0; h < c_.kv_heads; ++h) {
    float* k = s_.k[t] + h * c_.head_dim;
    kernels_.rmsnorm(k, layer.key_norm, c_.head_dim, c_.norm_epsilon, k);
    kernels_.rope(k, cosine, sine, c_.head_dim);
    s_.cache[t]->write(i, h, s_.position[t], k, s_.v[t] + h * c_.head_dim);
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

/// The last norm of rows [first, first + count) of those that were kept, as the head reads them.
void Decoder::norm_for_head(Worker& worker, int first, int count) {
  worker.for_each(count, [&](int t) {
    kernels_.rmsnorm(s_.x[first + t], w_.output_norm, c_.width, c_.norm_epsilon, s_.final.dense[t]);
    head_.quantize(s_.final, t);
  });
}

const GatedScratch& Decoder::scratch(const Worker& worker) const {
  return s_.scratch[static_cast<std::size_t>(worker.index())].gated;
}

}  // namespace lapidary
