#pragma once

#include "base/paged.h"
#include "text/vocabulary.h"

namespace lapidary {

/// A SentencePiece `ModelProto` of `pieces` in protobuf's wire format: BPE with byte fallback, text
/// left as it is but for spaces written as U+2581 (no normalisation, no dummy prefix, no white
/// space removed), as Gemma's own tokenizer.model says.
PagedString serialize_model_proto(const Pieces& pieces);

}  // namespace lapidary
