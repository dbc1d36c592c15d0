#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/team.h"
#include "model/decoder.h"
#include "runtime/model_impl.h"

namespace lapidary {

/// A decoder with one sequence of at most `context` tokens, without what a session puts around it.
class LoneDecoder {
 public:
  LoneDecoder(const Model& model, Team& team, int context, int pass,
              kernels::KvFormat format = kernels::KvFormat::kBf16)
      : pool_(model.impl().config, format, sequence_pages(model.impl().config, context, pass)),
        decoder_(*model.impl().weights, team, context, pass),
        table_(pool_, model.impl().config, context, pass) {}

  void forward(std::span<const std::int32_t> ids, int position, int first_row = 0) {
    const Piece piece{&table_, ids, position, {}, first_row};
    decoder_.forward({&piece, 1});
    first_row_ = first_row;
  }

  /// Of rows [first, first + count) of the last forward, from its first_row on.
  void logits(int first, int count, std::span<float> out) {
    decoder_.logits(rows(first, count), {out.data(), out.size() / static_cast<std::size_t>(count)});
  }
  bool best_logits(int first, int count, const HeadQuery& query) {
    return decoder_.best_logits(rows(first, count), query);
  }
  std::span<const ScoredRow> best(int row) const { return decoder_.best(row); }

 private:
  std::vector<const float*> rows(int first, int count) const {
    std::vector<const float*> all;
    for (int i = first; i < first + count; ++i) all.push_back(decoder_.row(i - first_row_));
    return all;
  }

  KvPool pool_;
  Decoder decoder_;
  PageTable table_;
  int first_row_ = 0;
};

}  // namespace lapidary
