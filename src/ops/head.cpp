#include "ops/head.h"

#include <algorithm>
#include <cmath>

namespace lapidary {

using kernels::kPanelRows;

std::size_t Head::memory_bytes(int rows, int columns, bool searchable) {
  return searchable ? ScreenedHead::memory_bytes(rows, columns) : 0;
}

Head::Head(const HeadWeights& weights, float softcap, const kernels::Kernels& kernels)
    : weights_(weights), kernels_(kernels), softcap_(softcap) {
  // A capped logit is not the product that the bounds are about.
  if (weights.searchable() && softcap == 0) search_.emplace(weights, kernels);
}

void Head::quantize(const LinearInput& input, int token) const {
  if (search_ || weights_.in_planes() || weights_.panels.quantized())
    kernels_.quantize16(input.dense[token], input.quantized.columns, input.quantized, token);
}

void Head::logits(Worker& worker, const LinearInput& input, int tokens, const Rows<float>& out,
                  std::byte* scratch) const {
  const int panels = weights_.panel_count(), whole = weights_.rows() / kPanelRows;
  const int step = panels_per_task(weights_.panel_bytes(), tokens);
  worker.for_each((panels + step - 1) / step, [&](int task) {
    const int begin = task * step, end = std::min(panels, begin + step);
    if (begin < whole) {
      head_panels(kernels_, input, 0, tokens, weights_, begin, std::min(end, whole),
                  {out.data + begin * kPanelRows, out.stride}, scratch);
    }
    if (end > whole) last_panel(input, tokens, out, scratch);
    if (softcap_ > 0)
      cap(tokens, begin * kPanelRows, std::min(end * kPanelRows, weights_.rows()), out);
  });
}

/// That of a last panel which exists: `out` has no room for the rows behind it.
void Head::last_panel(const LinearInput& input, int tokens, const Rows<float>& out,
                      std::byte* scratch) const {
  constexpr int kTokens = 16;
  const int panel = weights_.panel_count() - 1, row = panel * kPanelRows;
  float products[kTokens * kPanelRows];
  const Rows<float> some{products, kPanelRows};
  for (int first = 0; first < tokens; first += kTokens) {
    const int count = std::min(kTokens, tokens - first);
    head_panels(kernels_, input, first, count, weights_, panel, panel + 1, some, scratch);
    for (int t = 0; t < count; ++t)
      std::copy_n(some[t], weights_.rows() - row, out[first + t] + row);
  }
}

void Head::cap(int tokens, int begin, int end, const Rows<float>& out) const {
  for (int t = 0; t < tokens; ++t) {
    for (int r = begin; r < end; ++r) out[t][r] = softcap_ * std::tanh(out[t][r] / softcap_);
  }
}

bool Head::best(Worker& worker, const LinearInput& input, int tokens, const HeadQuery& query,
                std::byte* scratch) {
  return search_ && search_->search(worker, input, tokens, query, scratch);
}

}  // namespace lapidary
