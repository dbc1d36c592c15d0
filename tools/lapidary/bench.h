#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "image_flags.h"

namespace cli {

/// The middle one; the mean of the middle two.
double median(std::vector<double> values);

/// FNV-1a over the bits: two runs with the same hash computed the same values.
std::uint64_t hash_of(std::span<const float> values);

/// Measures the encoding of one view of a built-in picture, nothing of it taken from a cache.
int bench_image(const ModelFlags& model, ImageFlags images, int rounds, bool json);

}  // namespace cli
