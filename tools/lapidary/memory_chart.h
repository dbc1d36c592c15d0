#pragma once

#include <string>

#include "json.h"
#include "lapidary/lapidary.h"

namespace cli {

/// What a model's weights and its keys and values take as the context grows from 1,024 tokens to
/// `most` (at least 131,072), doubling: with the windows of its local layers, and as if every layer
/// were global. A table with a bar a line, as the technical report draws it, and the same for
/// programs.
std::string memory_chart(const lapidary::ModelInfo& info, lapidary::KvType kv, int most);
Json memory_by_context(const lapidary::ModelInfo& info, lapidary::KvType kv, int most);

}  // namespace cli
