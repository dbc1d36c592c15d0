#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "formats/blocks.h"

namespace lapidary {

/// The type that weights may be made into which is called `name` ("q4_k"); nothing where none is.
std::optional<BlockType> find_weight_type(std::string_view name);

/// Their names, for messages: "bf16, f16, …".
std::string weight_type_names();

/// `values`, a multiple of those of a block, as blocks of `type`, which must be one of
/// find_weight_type()'s; `out` has the bytes of these blocks. Nearest values, bit for bit as
/// llama.cpp's reference has them in Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1; of the types with 256 values
/// a block, scales that are searched for. The same bits on every machine; any thread may call it.
/// False where a value is not finite, or too large for the type.
bool quantize(BlockType type, std::span<const float> values, std::span<std::byte> out);

}  // namespace lapidary
