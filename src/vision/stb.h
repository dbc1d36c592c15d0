#pragma once

// The one door to stb_image: what comes in was checked before, and what stb allocates is bounded.

#include <cstddef>

#include "vision/decode.h"

namespace lapidary {

/// Decodes a PNG (or, where libjpeg is not built in, a JPEG) whose header gave the size of
/// `into`, into its pixels, which get allocated here. No allocation of stb's may exceed
/// `max_allocation` bytes, and none may grow beyond `max_grown`. With `alpha` transparent pixels
/// are put on white. Returns what is wrong, or nullptr.
const char* decode_with_stb(std::span<const std::uint8_t> bytes, std::size_t max_allocation,
                            std::size_t max_grown, bool alpha, DecodedPicture& into);

/// What a JPEG's header says, or false. There only where libjpeg is not built in.
bool jpeg_size_with_stb(std::span<const std::uint8_t> bytes, int& width, int& height);

}  // namespace lapidary
