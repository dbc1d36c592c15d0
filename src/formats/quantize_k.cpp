// Types with an fp16 scale for 256 values and integers beside it for each 32 or sixteen of them.
//
// Every part is fitted alone first: its integers are rounded with some inverse scales near the one
// that its range gives, the scale (and minimum) that least squares gives for these integers is
// taken, and the best of all kept. Errors count by how large a value is: large weights matter more.
// Then the scales are rounded, the integers chosen anew for what they have become, and the numbers
// of the whole block fitted once more.

#include "formats/quantize_k.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "formats/blocks.h"

namespace lapidary {
namespace {

using Byte = std::uint8_t;

constexpr int kBlockValues = 256;

/// To the nearest integer, for values below 2^22: a sum of this size has no fraction left.
float nearest(float value) {
  constexpr float kNoFraction = 0x1.8p23F;
  return (value + kNoFraction) - kNoFraction;
}

/// A sum in eight lanes, which a compiler may keep in one register: the order of additions is the
/// same everywhere.
struct Sum {
  float lanes[8] = {};
  float total() const {
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
           ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
  }
};

/// What least squares need of integers q, values x and their weights w.
struct Moments {
  float w, wx, wxx, wq, wqq, wxq;
};

/// Of integers clamp(nearest(inverse · (x - low)), 0, most).
template <int kCount>
Moments moments(const float* x, const float* w, float inverse, float low, float lowest,
                float most) {
  Sum sums[6];
  for (int i = 0; i < kCount; i += 8) {
    for (int lane = 0; lane < 8; ++lane) {
      const float value = x[i + lane], weight = w[i + lane];
      const float q = std::min(std::max(nearest(inverse * (value - low)), lowest), most);
      sums[0].lanes[lane] += weight;
      sums[1].lanes[lane] += weight * value;
      sums[2].lanes[lane] += weight * value * value;
      sums[3].lanes[lane] += weight * q;
      sums[4].lanes[lane] += weight * q * q;
      sums[5].lanes[lane] += weight * value * q;
    }
  }
  return {sums[0].total(), sums[1].total(), sums[2].total(),
          sums[3].total(), sums[4].total(), sums[5].total()};
}

/// scale · q - minimum; neither is negative.
struct Affine {
  float scale = 0, minimum = 0;
};

template <int kMost>
Affine fit_affine(const float* x, const float* w) {
  constexpr int kSteps = 24;
  const auto [least, greatest] = std::minmax_element(x, x + 32);
  const float low = std::min(*least, 0.0F), high = *greatest;
  if (high <= low) return {0, -low};
  Affine best{(high - low) / kMost, -low};
  float best_error = HUGE_VALF;
  for (int step = 0; step < kSteps; ++step) {
    const float inverse =
        (static_cast<float>(kMost) - 1.0F + 0.1F * static_cast<float>(step)) / (high - low);
    const Moments m = moments<32>(x, w, inverse, low, 0.0F, kMost);
    const float determinant = m.w * m.wqq - m.wq * m.wq;
    if (!(determinant > 0)) continue;
    float scale = (m.w * m.wxq - m.wx * m.wq) / determinant;
    float offset = (m.wqq * m.wx - m.wq * m.wxq) / determinant;
    if (offset > 0) {
      offset = 0;
      scale = m.wxq / m.wqq;
    }
    const float error = m.wxx + scale * (scale * m.wqq + 2 * (offset * m.wq - m.wxq)) +
                        offset * (offset * m.w - 2 * m.wx);
    if (scale > 0 && error < best_error) {
      best_error = error;
      best = {scale, -offset};
    }
  }
  return best;
}

float as_half(float value) { return half_to_float(float_to_half(value)); }

/// Eight parts of 32 values.
struct AffineBlock {
  float scale = 0, minimum = 0;           // fp16 numbers.
  Byte scales[8] = {}, minimums[8] = {};  // Six bits each.
  Byte q[kBlockValues] = {};
};

template <int kMost>
void choose_integers(const float* x, AffineBlock& block) {
  for (int part = 0; part < 8; ++part) {
    const float scale = block.scale * block.scales[part];
    const float minimum = block.minimum * block.minimums[part];
    const float inverse = scale > 0 ? 1.0F / scale : 0.0F;
    for (int i = 32 * part; i < 32 * (part + 1); ++i) {
      const float q = inverse * (x[i] + minimum);
      block.q[i] =
          static_cast<Byte>(nearest(std::min(std::max(q, 0.0F), static_cast<float>(kMost))));
    }
  }
}

/// The fp16 numbers that fit the integers of all parts best.
void refit(const float* x, const float* w, AffineBlock& block) {
  double ss = 0, sm = 0, mm = 0, sx = 0, mx = 0;
  for (int i = 0; i < kBlockValues; ++i) {
    const int part = i / 32;
    const double s = block.scales[part] * block.q[i], m = block.minimums[part];
    ss += w[i] * s * s;
    sm += w[i] * s * m;
    mm += w[i] * m * m;
    sx += w[i] * s * x[i];
    mx += w[i] * m * x[i];
  }
  const double determinant = ss * mm - sm * sm;
  float scale = block.scale, minimum = block.minimum;
  if (determinant > 1e-9 * ss * mm) {
    scale = static_cast<float>((sx * mm - mx * sm) / determinant);
    minimum = static_cast<float>((sx * sm - mx * ss) / determinant);
  } else if (ss > 0) {
    scale = static_cast<float>(sx / ss);
  }
  if (!(scale > 0) || !(minimum >= 0)) return;
  block.scale = as_half(scale);
  block.minimum = as_half(minimum);
}

template <int kMost>
AffineBlock fit_affine_block(const float* x) {
  float w[kBlockValues];
  Affine parts[8];
  float scale = 0, minimum = 0;
  for (int part = 0; part < 8; ++part) {
    const float* own = x + 32 * part;
    float squares = 0;
    for (int i = 0; i < 32; ++i) squares += own[i] * own[i];
    const float level = std::sqrt(squares / 32);
    for (int i = 0; i < 32; ++i) w[32 * part + i] = level + std::fabs(own[i]);
    parts[part] = fit_affine<kMost>(own, w + 32 * part);
    scale = std::max(scale, parts[part].scale);
    minimum = std::max(minimum, parts[part].minimum);
  }
  AffineBlock block;
  block.scale = as_half(scale / 63);
  block.minimum = as_half(minimum / 63);
  const auto six_bits = [](float value, float unit) {
    return static_cast<Byte>(unit > 0 ? std::min(nearest(value / unit), 63.0F) : 0.0F);
  };
  for (int part = 0; part < 8; ++part) {
    block.scales[part] = six_bits(parts[part].scale, block.scale);
    block.minimums[part] = six_bits(parts[part].minimum, block.minimum);
  }
  choose_integers<kMost>(x, block);
  if (!std::isfinite(block.scale) || !std::isfinite(block.minimum)) return block;
  refit(x, w, block);
  choose_integers<kMost>(x, block);
  return block;
}

/// As readers::k_scale reads them.
void write_k_scales(const AffineBlock& block, Byte* out) {
  for (int j = 0; j < 4; ++j) {
    const unsigned high = block.scales[j + 4], high_min = block.minimums[j + 4];
    out[j] = static_cast<Byte>(block.scales[j] | (high >> 4) << 6);
    out[j + 4] = static_cast<Byte>(block.minimums[j] | (high_min >> 4) << 6);
    out[j + 8] = static_cast<Byte>((high & 15U) | (high_min & 15U) << 4);
  }
}

template <bool kFiveBits>
bool quantize_affine(const float* x, Byte* out) {
  const AffineBlock block = fit_affine_block < kFiveBits ? 31 : 15 > (x);
  const bool fits = put_half(block.scale, out);
  if (!put_half(block.minimum, out + 2) || !fits) return false;
  write_k_scales(block, out + 4);
  Byte* const high = out + 16;
  Byte* const low = high + (kFiveBits ? 32 : 0);
  if (kFiveBits) std::memset(high, 0, 32);
  for (int pair = 0; pair < 4; ++pair) {
    const Byte* q = block.q + 64 * pair;
    for (int i = 0; i < 32; ++i) {
      low[32 * pair + i] = static_cast<Byte>((q[i] & 15U) | (q[i + 32] & 15U) << 4);
      if (kFiveBits)
        high[i] = static_cast<Byte>(high[i] | (q[i] >> 4) << 2 * pair |
                                    (q[i + 32] >> 4) << (2 * pair + 1));
    }
  }
  return true;
}

/// The scale of sixteen values that integers -32 … 31 are multiplied by; of any sign.
float fit_scale(const float* x, const float* w) {
  constexpr int kSteps = 19;
  float most = 0;
  for (int i = 0; i < 16; ++i) {
    if (std::fabs(x[i]) > std::fabs(most)) most = x[i];
  }
  if (std::fabs(most) < 1e-30F) return 0;
  float best = most / -32, best_gain = 0;
  for (int step = 0; step < kSteps; ++step) {
    const float inverse = -(31.1F + 0.1F * static_cast<float>(step)) / most;
    const Moments m = moments<16>(x, w, inverse, 0.0F, -32.0F, 31.0F);
    // What the error is less than without any.
    const float gain = m.wqq > 0 ? m.wxq * m.wxq / m.wqq : 0;
    if (gain > best_gain) {
      best_gain = gain;
      best = m.wxq / m.wqq;
    }
  }
  return best;
}

/// As readers::q6_k reads them.
void write_six_bits(const std::int8_t* q, Byte* out) {
  std::memset(out, 0, 192);
  for (int i = 0; i < kBlockValues; ++i) {
    const int part = i / 32, at = i % 32;
    const unsigned value = static_cast<unsigned>(q[i] + 32);
    Byte& low = out[part / 4 * 64 + part % 2 * 32 + at];
    Byte& high = out[128 + part / 4 * 32 + at];
    low = static_cast<Byte>(low | (value & 15U) << (part % 4 < 2 ? 0 : 4));
    high = static_cast<Byte>(high | (value >> 4) << 2 * (part % 4));
  }
}

}  // namespace

bool quantize_q4_k(const float* values, Byte* out) { return quantize_affine<false>(values, out); }
bool quantize_q5_k(const float* values, Byte* out) { return quantize_affine<true>(values, out); }

bool quantize_q6_k(const float* values, Byte* out) {
  constexpr int kParts = 16;
  float w[kBlockValues], scales[kParts], most = 0;
  for (int i = 0; i < kBlockValues; ++i) w[i] = values[i] * values[i];
  for (int part = 0; part < kParts; ++part) {
    scales[part] = fit_scale(values + 16 * part, w + 16 * part);
    if (std::fabs(scales[part]) > std::fabs(most)) most = scales[part];
  }
  std::memset(out, 0, 210);
  float scale = as_half(most / -128);
  if (scale == 0) {
    write_six_bits(std::array<std::int8_t, kBlockValues>{}.data(), out);
    return true;
  }
  std::int8_t q[kBlockValues];
  double xs = 0, ss = 0;
  const auto choose = [&] {
    xs = ss = 0;
    for (int i = 0; i < kBlockValues; ++i) {
      const auto s = static_cast<float>(static_cast<std::int8_t>(out[192 + i / 16]));
      const float unit = scale * s;
      const float value = unit != 0 ? values[i] / unit : 0.0F;
      q[i] = static_cast<std::int8_t>(nearest(std::min(std::max(value, -32.0F), 31.0F)));
      const double product = double{s} * q[i];
      xs += double{w[i]} * values[i] * product;
      ss += double{w[i]} * product * product;
    }
  };
  for (int part = 0; part < kParts; ++part) {
    const float s = std::min(std::max(nearest(scales[part] / scale), -128.0F), 127.0F);
    out[192 + part] = static_cast<Byte>(static_cast<std::int8_t>(s));
  }
  choose();
  if (ss > 0) {
    scale = as_half(static_cast<float>(xs / ss));
    choose();
  }
  write_six_bits(q, out);
  return put_half(scale, out + 208);
}

}  // namespace lapidary
