#pragma once

#include <atomic>
#include <cstdint>

#include "base/team.h"
#include "kernels/kernels.h"
#include "lapidary/image.h"

namespace lapidary {

/// Writes `view` of `image`, resized, to `out`: [height][width][3]. The bytes are those of Pillow's
/// crop(view).resize((width, height), BILINEAR), on any number of threads: a triangle filter whose
/// support grows with the scale, weights rounded to 22 bits, an axis after the other with bytes
/// between, an axis that keeps its size left alone. The view must lie in the picture. Throws
/// Error(kMemory) when there is none for the half-resized picture: the shrunk axis times the other;
/// Error(kInterrupted) once `cancel` is set.
void resize(const Image& image, const ImageView& view, int width, int height,
            const kernels::Kernels& kernels, Team& team, std::uint8_t* out,
            const std::atomic<bool>* cancel = nullptr);

}  // namespace lapidary
