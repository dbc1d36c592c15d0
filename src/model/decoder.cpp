#include "model/decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "base/memory.h"
#include "model/attention.h"
#include "model/decoder_state.h"
#include "model/kv_cache.h"
#include "model/weights.h"

namespace lapidary {

using kernels::kPanelRows;

namespace {

constexpr int kGatherBlocks = 16;  // Blocks whose low parts one task gathers.
// What is done token by token for so few of them takes no longer than the barrier that would share
// it out.
constexpr int kFewTokens = 2;

}  // namespace

class Decoder::Impl {
 public:
  Impl(const Weights& weights, Team& team, int context, int chunk)
      : w_(weights),
        c_(weights.config),
        kernels_(*weights.kernels),
        team_(team),
        cache_(weights.config, context, chunk),
        arena_(state_bytes(weights.config, context, chunk, team.threads()), Pages::kSmall),
        attention_(weights.config, *weights.kernels, s_) {
    runs_.reserve(kMostTogether);
    Layout layout(&arena_);
    s_ = make_state(layout, c_, context, chunk, team.threads());
    if (w_.screen.rows > 0) screened_.emplace(w_.screen, w_.head, kernels_);
    frequencies_[0] = rope_frequencies(c_.global_rope_base, c_.global_rope_factor);
    frequencies_[1] = rope_frequencies(c_.local_rope_base, 1.0F);
  }

  void forward(std::span<const std::int32_t> ids, int position, std::span<const ImageRows> images,
               int first_row, const std::atomic<bool>* cancel) {
    runs_.clear();
    runs_.push_back({&cache_, 0, static_cast<int>(ids.size()), position});
    first_row_ = first_row;
    place_tokens();
    place_images(images);
    compute(ids, cancel);
  }

  void forward_together(std::span<Decoder* const> sequences, std::span<const std::int32_t> ids,
                        std::span<const int> positions) {
    runs_.clear();
    for (std::size_t i = 0; i < ids.size(); ++i)
      runs_.push_back({&sequences[i]->impl_->cache_, static_cast<int>(i), 1, positions[i]});
    first_row_ = 0;
    place_tokens();
    compute(ids);
  }

  void compute(std::span<const std::int32_t> ids, const std::atomic<bool>* cancel = nullptr) {
    auto body = [&](Worker& worker) {
      embed(worker, ids);
      for (int i = 0; i < c_.layers; ++i) {
        attention_block(worker, i);
        feed_forward_block(worker, i);
      }
    };
    team_.run(body, cancel);
  }

  void logits(int first, int count, std::span<float> out) {
    auto body = [&](Worker& worker) {
      norm_for_head(worker, first - first_row_, count);
      head(worker, count, out.data());
    };
    team_.run(body);
    if (c_.logit_softcap > 0) {
      for (float& v : out) v = c_.logit_softcap * std::tanh(v / c_.logit_softcap);
    }
  }

  bool best_logits(int first, int count, const HeadQuery& query) {
    if (!screened_ || c_.logit_softcap > 0) return false;
    bool found = false;
    auto body = [&](Worker& worker) {
      norm_for_head(worker, first - first_row_, count);
      const bool all = screened_->search(worker, s_.final, count, query, scratch(worker).matmul);
      if (worker.index() == 0) found = all;
    };
    team_.run(body);
    return found;
  }

  std::span<const ScoredRow> best(int row) const { return screened_->found(row); }
  HeadStats head_stats() const { return screened_ ? screened_->stats() : HeadStats{}; }

 private:
  std::vector<double> rope_frequencies(float base, float factor) const {
    std::vector<double> out;
    out.reserve(static_cast<std::size_t>(c_.head_dim / 2));
    for (int j = 0; j < c_.head_dim / 2; ++j) {
      out.push_back(std::pow(static_cast<double>(base), -2.0 * j / c_.head_dim) /
                    static_cast<double>(factor));
    }
    return out;
  }

  void place_tokens() {
    tokens_ = 0;
    for (const Run& run : runs_) {
      for (int i = 0; i < run.count; ++i, ++tokens_) {
        s_.features[tokens_] = nullptr;
        s_.position[tokens_] = s_.last_key[tokens_] = run.position + i;
        s_.cache[tokens_] = run.cache;
      }
    }
    choose_low_parts();
  }

  /// Low parts are gathered for the products of many tokens.
  void choose_low_parts() { s_.hidden.quantized.low_gathered = tokens_ >= kernels::kGatherTokens; }

  /// Of the one run, goes on with the rows from first_row_ on, which move to the front.
  void drop_first_rows() {
    const auto keep = [&](auto* rows, int width) {
      std::copy(rows + at(first_row_, width), rows + at(tokens_, width), rows);
    };
    keep(s_.x, c_.width);
    keep(s_.q, c_.query_width());
    keep(s_.position, 1);
    keep(s_.last_key, 1);
    keep(s_.cache, 1);
    tokens_ -= first_row_;
    runs_.front() = {runs_.front().cache, 0, tokens_, s_.position[0]};
    choose_low_parts();
  }

  void place_images(std::span<const ImageRows> images) {
    const std::int64_t begin = s_.position[0];
    for (const ImageRows& image : images) {
      const int end = image.begin + image.count;
      for (int p = image.begin; p < end; ++p) {
        s_.features[p - begin] = image.features + at(p - image.begin, c_.width);
        s_.last_key[p - begin] = end - 1;
      }
    }
  }

  /// x = embed[token] · sqrt(d), or an image's row as it is, the angles of RoPE, and the first
  /// layer's norm.
  void embed(Worker& worker, std::span<const std::int32_t> ids) {
    worker.for_each(tokens_, [&](int t) {
      float* x = s_.x + at(t, c_.width);
      if (s_.features[t] != nullptr) {
        std::copy_n(s_.features[t], c_.width, x);
      } else {
        copy_row(w_.embedding, ids[static_cast<std::size_t>(t)], x);
        const float scale = std::sqrt(static_cast<float>(c_.width));
        for (int i = 0; i < c_.width; ++i) x[i] *= scale;
      }
      for (int kind = 0; kind < 2; ++kind) {
        for (int j = 0; j < c_.head_dim / 2; ++j) {
          const double angle =
              static_cast<double>(s_.position[t]) * frequencies_[kind][static_cast<std::size_t>(j)];
          s_.cosine[kind][at(t, c_.head_dim / 2) + static_cast<std::size_t>(j)] =
              static_cast<float>(std::cos(angle));
          s_.sine[kind][at(t, c_.head_dim / 2) + static_cast<std::size_t>(j)] =
              static_cast<float>(std::sin(angle));
        }
      }
      norm_for(w_.layers[0].attention_norm, t);
    });
  }

  /// h = rmsnorm(x, weight), as the matrices read it.
  void norm_for(const float* weight, int t) {
    float* h = s_.normed.dense + at(t, c_.width);
    kernels_.rmsnorm(s_.x + at(t, c_.width), weight, c_.width, c_.norm_epsilon, h);
    kernels_.quantize(h, c_.width, s_.normed.quantized, t);
  }

  /// x += rmsnorm(projected, weight), then the norm in front of what comes next.
  void add_normed(const float* weight, const float* next, int t) {
    kernels_.rmsnorm_add(s_.projected + at(t, c_.width), weight, c_.width, c_.norm_epsilon,
                         s_.x + at(t, c_.width));
    if (next != nullptr) norm_for(next, t);
  }

  /// `phase(then)` runs work of all threads that ends with a barrier, at which `then` is run;
  /// behind it follows `each` for every token. So a layer has five barriers for one token, and nine
  /// or ten for many.
  template <class Phase, class Each>
  void for_tokens_after(Worker& worker, const Phase& phase, const Each& each) {
    if (tokens_ <= kFewTokens) {
      phase([&] {
        for (int t = 0; t < tokens_; ++t) each(t);
      });
    } else {
      phase(kNothing);
      worker.for_each(tokens_, each);
    }
  }

  void attention_block(Worker& worker, int i) {
    const LayerWeights& layer = w_.layers[static_cast<std::size_t>(i)];
    const LinearJob qkv[] = {{&layer.query, s_.q, static_cast<std::size_t>(c_.query_width())},
                             {&layer.key, s_.k, static_cast<std::size_t>(c_.kv_width())},
                             {&layer.value, s_.v, static_cast<std::size_t>(c_.kv_width())}};
    multiply(worker, s_.normed, qkv, 3, false, [&](int t) { rotate_and_store(i, t); });
    // The keys and values of the last layer are all that the rows without logits are needed for.
    if (i + 1 == c_.layers && first_row_ > 0) worker.barrier([&] { drop_first_rows(); });
    attention_.run(worker, i, runs_);
    const LinearJob output{&layer.output, s_.projected, static_cast<std::size_t>(c_.width)};
    multiply(worker, s_.attended, &output, 1, false,
             [&](int t) { add_normed(layer.post_attention_norm, layer.ffn_norm, t); });
  }

  void feed_forward_block(Worker& worker, int i) {
    const LayerWeights& layer = w_.layers[static_cast<std::size_t>(i)];
    make_hidden(worker, layer);
    const LinearJob down{&layer.down, s_.projected, static_cast<std::size_t>(c_.width)};
    const bool last = i + 1 == c_.layers;
    const float* next = last ? nullptr : w_.layers[static_cast<std::size_t>(i) + 1].attention_norm;
    multiply(worker, s_.hidden, &down, 1, true,
             [&](int t) { add_normed(layer.post_ffn_norm, next, t); });
  }

  /// Some products of `input`, and behind them `each` for every token.
  template <class Each>
  void multiply(Worker& worker, const LinearInput& input, const LinearJob* jobs, int count,
                bool wide, const Each& each) {
    for_tokens_after(
        worker,
        [&](const auto& then) {
          linear(worker, kernels_, input, 0, tokens_, jobs, count, scratch(worker).matmul, wide,
                 then);
        },
        each);
  }

  Scratch& scratch(const Worker& worker) {
    return s_.scratch[static_cast<std::size_t>(worker.index())];
  }

  /// q, k = rope(rmsnorm_per_head(q, k)); q is scaled; k and v go to the cache.
  void rotate_and_store(int i, int t) {
    const LayerWeights& layer = w_.layers[static_cast<std::size_t>(i)];
    const int kind = c_.local[static_cast<std::size_t>(i)] ? 1 : 0;
    const float* cosine = s_.cosine[kind] + at(t, c_.head_dim / 2);
    const float* sine = s_.sine[kind] + at(t, c_.head_dim / 2);
    for (int h = 0; h < c_.query_heads; ++h) {
      float* q = s_.q + at(t, c_.query_width()) + at(h, c_.head_dim);
      kernels_.rmsnorm(q, layer.query_norm, c_.head_dim, c_.norm_epsilon, q);
      kernels_.rope(q, cosine, sine, c_.head_dim);
      for (int d = 0; d < c_.head_dim; ++d) q[d] *= c_.query_scale;
    }
    for (int h = 0; h < c_.kv_heads; ++h) {
      float* k = s_.k + at(t, c_.kv_width()) + at(h, c_.head_dim);
      kernels_.rmsnorm(k, layer.key_norm, c_.head_dim, c_.norm_epsilon, k);
      kernels_.rope(k, cosine, sine, c_.head_dim);
      s_.cache[t]->write(i, h, s_.position[t], k, s_.v + at(t, c_.kv_width()) + at(h, c_.head_dim));
    }
  }

  /// The input of ffn_down, as that reads it.
  void make_hidden(Worker& worker, const LayerWeights& layer) {
    if (!layer.down.quantized()) {
      gate_and_up(worker, layer, kNothing);
      return;
    }
    for_tokens_after(
        worker, [&](const auto& then) { gate_and_up(worker, layer, then); },
        [&](int t) { kernels_.round_fine_blocks(s_.hidden.quantized, t); });
    if (s_.hidden.quantized.low_gathered) gather_low(worker);
  }

  /// hidden = gelu_tanh(Wgate h) ⊙ (Wup h), one task some blocks of 32 of its columns.
  void gate_and_up(Worker& worker, const LayerWeights& layer, FunctionRef<void()> then) {
    const int pairs = c_.feed_forward / kPairRows;
    const int step = std::max(1, panels_per_task(layer.gate, tokens_) / 4);
    Scratch& own = scratch(worker);
    const auto make_columns = [&](int task) {
      for (int pair = task * step; pair < std::min(pairs, (task + 1) * step); ++pair) {
        linear_panels(kernels_, s_.normed, 0, tokens_, layer.gate, 2 * pair, 2 * pair + 2, own.gate,
                      kPairRows, own.matmul);
        linear_panels(kernels_, s_.normed, 0, tokens_, layer.up, 2 * pair, 2 * pair + 2, own.up,
                      kPairRows, own.matmul);
        kernels_.gelu_mul(own.gate, own.up, tokens_ * kPairRows);
        for (int t = 0; t < tokens_; ++t)
          store_hidden(own.gate + at(t, kPairRows), pair * kPairRows, layer.down.quantized(), t);
      }
    };
    worker.for_each((pairs + step - 1) / step, make_columns, then);
  }

  /// Columns [column, column + kPairRows) of the hidden values of a token.
  void store_hidden(const float* values, int column, bool quantized, int t) {
    if (quantized) {
      kernels_.quantize16_part(values, column, kPairRows, s_.hidden.quantized, t);
    } else {
      std::copy_n(values, kPairRows, s_.hidden.dense + at(t, c_.feed_forward) + column);
    }
  }

  void gather_low(Worker& worker) {
    const int blocks = c_.feed_forward / kernels::kBlock;
    worker.for_each((blocks + kGatherBlocks - 1) / kGatherBlocks, [&](int task) {
      const int first = task * kGatherBlocks;
      kernels::gather_low_blocks(s_.hidden.quantized, tokens_, first,
                                 std::min(kGatherBlocks, blocks - first));
    });
  }

  /// The last norm of rows [first, first + count) of those that were kept, as the head reads them.
  void norm_for_head(Worker& worker, int first, int count) {
    worker.for_each(count, [&](int t) {
      float* normed = s_.final.dense + at(t, c_.width);
      kernels_.rmsnorm(s_.x + at(first + t, c_.width), w_.output_norm, c_.width, c_.norm_epsilon,
                       normed);
      if (w_.head.quantized() || screened_)
        kernels_.quantize16(normed, c_.width, s_.final.quantized, t);
    });
  }

  /// logits = embed · h; `out` has `vocabulary` floats a row, of which the last panel may fill only
  /// some.
  void head(Worker& worker, int count, float* out) {
    const PackedMatrix& m = w_.head;
    const int step = panels_per_task(m, count);
    const int whole = m.rows / kPanelRows;
    const auto stride = static_cast<std::size_t>(c_.vocabulary);
    Scratch& own = scratch(worker);
    worker.for_each((m.panel_count() + step - 1) / step, [&](int task) {
      const int begin = task * step;
      const int end = std::min(whole, begin + step);
      if (begin < end) {
        linear_panels(kernels_, s_.final, 0, count, m, begin, end, out + begin * kPanelRows, stride,
                      own.matmul, true);
      }
      if (begin + step <= whole || whole == m.panel_count()) return;
      linear_panels(kernels_, s_.final, 0, count, m, whole, whole + 1, own.gate, kPanelRows,
                    own.matmul, true);
      for (int t = 0; t < count; ++t) {
        std::copy_n(own.gate + at(t, kPanelRows), m.rows - whole * kPanelRows,
                    out + at(t, c_.vocabulary) + whole * kPanelRows);
      }
    });
  }

  const Weights& w_;
  const Config& c_;
  const kernels::Kernels& kernels_;
  Team& team_;
  KvCache cache_;
  Arena arena_;
  State s_;
  Attention attention_;
  std::optional<ScreenedHead> screened_;
  std::vector<double> frequencies_[2];  // By layer kind; radians a position.
  std::vector<Run> runs_;               // Of the last forward, …
  int tokens_ = 0;                      // … and their tokens; behind it, those with logits.
  int first_row_ = 0;                   // The first of the last forward that has.
};

std::uint64_t Decoder::memory_bytes(const Config& config, int context, int chunk, int threads) {
  const std::uint64_t screened =
      config.screened_head ? ScreenedHead::memory_bytes(config.vocabulary, config.width) : 0;
  return kv_cache_bytes(config, context, chunk) + state_bytes(config, context, chunk, threads) +
         screened;
}

Decoder::Decoder(const Weights& weights, Team& team, int context, int chunk)
    : impl_(std::make_unique<Impl>(weights, team, context, chunk)) {}
Decoder::~Decoder() = default;

void Decoder::forward(std::span<const std::int32_t> ids, int position,
                      std::span<const ImageRows> images, int first_row,
                      const std::atomic<bool>* cancel) {
  impl_->forward(ids, position, images, first_row, cancel);
}
void Decoder::forward_together(std::span<Decoder* const> sequences,
                               std::span<const std::int32_t> ids, std::span<const int> positions) {
  impl_->forward_together(sequences, ids, positions);
}
void Decoder::logits(int first, int count, std::span<float> out) {
  impl_->logits(first, count, out);
}
bool Decoder::best_logits(int first, int count, const HeadQuery& query) {
  return impl_->best_logits(first, count, query);
}
std::span<const ScoredRow> Decoder::best(int row) const { return impl_->best(row); }
HeadStats Decoder::head_stats() const { return impl_->head_stats(); }

}  // namespace lapidary
