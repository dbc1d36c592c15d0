#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "formats/grids.h"

/// How 32 values of a block are read, for each type of the list in formats/blocks.h.
namespace lapidary {

/// 32 values as a file holds them.
struct FileBlock {
  std::uint8_t q[32];       // Unsigned; with 8 bits, int8.
  std::uint8_t scales[4];   // Of these values alone: 16-bit floats, or integers (ScaleForm).
  std::uint8_t header[4];   // Of 256 values: fp16 scale and minimum.
  std::uint8_t numbers[8];  // Of entries of a grid that is packed as it is: one for each four.
};

inline std::uint16_t load_u16(const void* from) {
  std::uint16_t value;
  std::memcpy(&value, from, 2);
  return value;
}
inline std::uint32_t load_u32(const void* from) {
  std::uint32_t value;
  std::memcpy(&value, from, 4);
  return value;
}

/// The scales of MXFP4 as bf16, which are not negative: twelve times this one is no finite float.
inline constexpr std::uint16_t kEndOfMxScales = 252 << 7;

namespace readers {

/// Sixteen bytes: first the lower halves of all, then the upper ones.
inline void split_nibbles(const std::uint8_t* nibbles, std::uint8_t* q) {
  for (int i = 0; i < 16; ++i) {
    q[i] = nibbles[i] & 15U;
    q[i + 16] = static_cast<std::uint8_t>(nibbles[i] >> 4);
  }
}

/// Bit i of the word becomes bit 4 of q[i]; eight values at a time.
inline void add_fifth_bits(const std::uint8_t* bits, std::uint8_t* q) {
  constexpr std::uint64_t kEach = 0x0101010101010101, kOwn = 0x8040201008040201;
  for (std::size_t byte = 0; byte < 4; ++byte) {
    const std::uint64_t own = (bits[byte] * kEach) & kOwn;  // Byte i has only bit i left …
    std::uint64_t eight;
    std::memcpy(&eight, q + 8 * byte, 8);
    eight |= ((own + 0x7F * kEach) & (0x80 * kEach)) >> 3;  // … and is 0 or carries into bit 7.
    std::memcpy(q + 8 * byte, &eight, 8);
  }
}

inline void q4_0(const std::uint8_t* block, int /*part*/, FileBlock& out) {
  std::memcpy(out.scales, block, 2);
  split_nibbles(block + 2, out.q);
}
inline void q4_1(const std::uint8_t* block, int /*part*/, FileBlock& out) {
  std::memcpy(out.scales, block, 4);
  split_nibbles(block + 4, out.q);
}
inline void q5_0(const std::uint8_t* block, int /*part*/, FileBlock& out) {
  std::memcpy(out.scales, block, 2);
  split_nibbles(block + 6, out.q);
  add_fifth_bits(block + 2, out.q);
}
inline void q5_1(const std::uint8_t* block, int /*part*/, FileBlock& out) {
  std::memcpy(out.scales, block, 4);
  split_nibbles(block + 8, out.q);
  add_fifth_bits(block + 4, out.q);
}
inline void q8_0(const std::uint8_t* block, int /*part*/, FileBlock& out) {
  std::memcpy(out.scales, block, 2);
  std::memcpy(out.q, block + 2, 32);
}

/// Scale and minimum number j of the 6-bit pairs in the 12 bytes of Q4_K and Q5_K.
inline void k_scale(const std::uint8_t* s, int j, std::uint8_t* scale, std::uint8_t* minimum) {
  if (j < 4) {
    *scale = s[j] & 63U;
    *minimum = s[j + 4] & 63U;
  } else {
    *scale = static_cast<std::uint8_t>((s[j + 4] & 15U) | (s[j - 4] >> 6 & 3U) << 4);
    *minimum = static_cast<std::uint8_t>((s[j + 4] >> 4) | (s[j] >> 6 & 3U) << 4);
  }
}
template <bool kFiveBits>
void q45_k(const std::uint8_t* block, int part, FileBlock& out) {
  std::memcpy(out.header, block, 4);
  k_scale(block + 4, part, &out.scales[0], &out.scales[1]);
  const std::uint8_t* high = block + 16;
  const std::uint8_t* low = high + (kFiveBits ? 32 : 0) + part / 2 * 32;
  for (int i = 0; i < 32; ++i) {
    unsigned q = part % 2 == 0 ? low[i] & 15U : static_cast<unsigned>(low[i]) >> 4;
    if (kFiveBits) q |= (high[i] >> part & 1U) << 4;
    out.q[i] = static_cast<std::uint8_t>(q);
  }
}
inline void q6_k(const std::uint8_t* block, int part, FileBlock& out) {
  const std::uint8_t* low = block + part / 4 * 64 + part % 2 * 32;
  const std::uint8_t* high = block + 128 + part / 4 * 32;
  const unsigned low_shift = part % 4 < 2 ? 0 : 4;
  const unsigned high_shift = static_cast<unsigned>(part % 4) * 2;
  for (int i = 0; i < 32; ++i) {
    out.q[i] = static_cast<std::uint8_t>((low[i] >> low_shift & 15U) |
                                         ((high[i] >> high_shift & 3U) << 4));
  }
  out.scales[0] = block[192 + 2 * part];
  out.scales[1] = block[192 + 2 * part + 1];
  std::memcpy(out.header, block + 208, 2);
}

inline void iq4_xs(const std::uint8_t* block, int part, FileBlock& out) {
  std::memcpy(out.header, block, 2);
  const unsigned low = static_cast<unsigned>(block[4 + part / 2]) >> 4 * (part % 2) & 15U;
  const unsigned high = static_cast<unsigned>(block[2 + part / 4]) >> 2 * (part % 4) & 3U;
  out.scales[0] = static_cast<std::uint8_t>(low | high << 4);
  split_nibbles(block + 8 + 16 * part, out.q);
}

// Two and three bits.

/// Two bits of each of 32 bytes.
inline void two_bits(const std::uint8_t* bytes, int shift, std::uint8_t* q) {
  for (int i = 0; i < 32; ++i) q[i] = static_cast<std::uint8_t>(bytes[i] >> shift & 3);
}
inline void q2_k(const std::uint8_t* block, int part, FileBlock& out) {
  std::memcpy(out.header, block + 80, 4);
  std::memcpy(out.scales, block + 2 * part, 2);
  two_bits(block + 16 + part / 4 * 32, part % 4 * 2, out.q);
}
inline void q3_k(const std::uint8_t* block, int part, FileBlock& out) {
  std::memcpy(out.header, block + 108, 2);
  two_bits(block + 32 + part / 4 * 32, part % 4 * 2, out.q);
  for (int i = 0; i < 32; ++i)
    out.q[i] = static_cast<std::uint8_t>(out.q[i] | (block[i] >> part & 1) << 2);
  const std::uint8_t* scales = block + 96;
  for (int half = 0; half < 2; ++half) {
    const int j = 2 * part + half;
    const int low = scales[j % 8] >> (j < 8 ? 0 : 4) & 15;
    const int high = scales[8 + j % 4] >> j / 4 * 2 & 3;
    out.scales[half] = static_cast<std::uint8_t>((low | high << 4) - 32);
  }
}
inline void tq2_0(const std::uint8_t* block, int part, FileBlock& out) {
  std::memcpy(out.scales, block + 64, 2);
  two_bits(block + part / 4 * 32, part % 4 * 2, out.q);
}
/// Digit `place` of a byte that holds five digits to the base of three, as a fraction of 256.
inline std::uint8_t ternary_digit(std::uint8_t byte, int place) {
  constexpr unsigned kPowers[] = {1, 3, 9, 27, 81};
  return static_cast<std::uint8_t>((byte * kPowers[place] & 255U) * 3 >> 8);
}
inline void tq1_0(const std::uint8_t* block, int part, FileBlock& out) {
  std::memcpy(out.scales, block + 52, 2);
  for (int i = 0; i < 32; ++i) {
    const int k = 32 * part + i;
    if (k < 160) {
      out.q[i] = ternary_digit(block[i], part);
    } else if (k < 240) {
      out.q[i] = ternary_digit(block[32 + i % 16], (k - 160) / 16);
    } else {
      out.q[i] = ternary_digit(block[48 + i % 4], (k - 240) / 4);
    }
  }
}

inline void mxfp4(const std::uint8_t* block, int /*part*/, FileBlock& out) {
  const unsigned exponent = block[0];  // Two are no normal floats.
  const unsigned scale = exponent < 2 ? 0x20U << exponent : (exponent - 1) << 7;
  out.scales[0] = static_cast<std::uint8_t>(scale);
  out.scales[1] = static_cast<std::uint8_t>(scale >> 8);
  split_nibbles(block + 1, out.q);
}

// Grids. A value is a level, and above that its sign.

/// Bit i of a byte becomes bit 0 of byte i.
inline std::uint64_t spread_bits(std::uint8_t bits) {
  constexpr std::uint64_t kEach = 0x0101010101010101, kOwn = 0x8040201008040201;
  return (((bits * kEach) & kOwn) + 0x7F * kEach) >> 7 & kEach;
}
/// Eight fields of two bits, and four of three, become bytes.
inline std::uint64_t spread_two_bits(std::uint16_t fields) {
  std::uint64_t x = fields;
  x = (x | x << 24) & 0x000000FF000000FF;
  x = (x | x << 12) & 0x000F000F000F000F;
  return (x | x << 6) & 0x0303030303030303;
}
inline std::uint32_t spread_three_bits(std::uint16_t fields) {
  std::uint32_t x = fields;
  x = (x | x << 10) & 0x003F003F;
  return (x | x << 5) & 0x07070707;
}
/// Eight signs in seven bits: an even number of them is set.
inline std::uint8_t even_signs(unsigned seven) {
  seven &= 127U;
  return static_cast<std::uint8_t>(seven | static_cast<unsigned>(std::popcount(seven) & 1) << 7);
}

/// Values 8 · octet … of the 32.
inline void put_octet(std::uint16_t entry, std::uint8_t signs, int octet, FileBlock& out) {
  const std::uint64_t q = spread_two_bits(entry) | spread_bits(signs) << 2;
  std::memcpy(out.q + 8 * octet, &q, 8);
}
inline void put_quads(std::uint16_t first, std::uint16_t second, std::uint8_t signs, int octet,
                      FileBlock& out) {
  const std::uint64_t levels =
      spread_three_bits(first) | static_cast<std::uint64_t>(spread_three_bits(second)) << 32;
  const std::uint64_t q = levels | spread_bits(signs) << 3;
  std::memcpy(out.q + 8 * octet, &q, 8);
}
/// Nibble n stands for 2n + 1.
inline std::uint8_t odd(unsigned n) { return static_cast<std::uint8_t>(2 * n + 1); }

inline void iq2_xxs(const std::uint8_t* block, int part, FileBlock& out) {
  std::memcpy(out.header, block, 2);
  const std::uint8_t* numbers = block + 2 + 8 * part;
  const std::uint32_t signs = load_u32(numbers + 4);
  for (int o = 0; o < 4; ++o)
    put_octet(kIq2XxsGrid[numbers[o]], even_signs(signs >> 7 * o), o, out);
  out.scales[0] = static_cast<std::uint8_t>(signs >> 28);
}
inline void iq2_xs(const std::uint8_t* block, int part, FileBlock& out) {
  std::memcpy(out.header, block, 2);
  for (int o = 0; o < 4; ++o) {
    const unsigned both = load_u16(block + 2 + 8 * part + 2 * o);
    put_octet(kIq2XsGrid[both & 511U], even_signs(both >> 9), o, out);
  }
  out.scales[0] = odd(block[66 + part] & 15U);
  out.scales[1] = odd(block[66 + part] >> 4);
}
inline void iq2_s(const std::uint8_t* block, int part, FileBlock& out) {
  std::memcpy(out.header, block, 2);
  for (int o = 0; o < 4; ++o) {
    const unsigned high = static_cast<unsigned>(block[66 + part]) >> 2 * o & 3U;
    const unsigned number = block[2 + 4 * part + o] | high << 8;
    put_octet(kIq2SGrid[number], block[34 + 4 * part + o], o, out);
  }
  out.scales[0] = odd(block[74 + part] & 15U);
  out.scales[1] = odd(block[74 + part] >> 4);
}
inline void iq3_xxs(const std::uint8_t* block, int part, FileBlock& out) {
  std::memcpy(out.header, block, 2);
  const std::uint8_t* numbers = block + 2 + 8 * part;
  const std::uint32_t signs = load_u32(block + 66 + 4 * part);
  std::memcpy(out.numbers, numbers, 8);
  for (int o = 0; o < 4; ++o) {
    put_quads(kIq3XxsGrid[numbers[2 * o]], kIq3XxsGrid[numbers[2 * o + 1]],
              even_signs(signs >> 7 * o), o, out);
  }
  out.scales[0] = static_cast<std::uint8_t>(signs >> 28);
}
inline void iq3_s(const std::uint8_t* block, int part, FileBlock& out) {
  std::memcpy(out.header, block, 2);
  const std::uint8_t* numbers = block + 2 + 8 * part;
  const auto entry = [&](int i) {
    const unsigned high = static_cast<unsigned>(block[66 + part]) >> i & 1U;
    return kIq3SGrid[numbers[i] | high << 8];
  };
  for (int o = 0; o < 4; ++o)
    put_quads(entry(2 * o), entry(2 * o + 1), block[74 + 4 * part + o], o, out);
  const unsigned scales = block[106 + part / 2];
  out.scales[0] = static_cast<std::uint8_t>(scales >> 4 * (part % 2) & 15U);
}

/// Three levels, without a sign. What is added to them is an eighth, with the sign of 32 values …
inline void iq1_s(const std::uint8_t* block, int part, FileBlock& out) {
  std::memcpy(out.header, block, 2);
  const unsigned rest = load_u16(block + 34 + 2 * part);
  for (int o = 0; o < 4; ++o)
    put_octet(kIq1Grid[block[2 + 4 * part + o] | (rest >> 3 * o & 7U) << 8], 0, o, out);
  out.scales[0] = static_cast<std::uint8_t>(rest >> 12);
}
/// … or of eight, which is bit 2 of a value and stands above the scales as well.
inline void iq1_m(const std::uint8_t* block, int part, FileBlock& out) {
  unsigned scale = 0;
  for (int i = 0; i < 4; ++i)
    scale |= static_cast<unsigned>(load_u16(block + 48 + 2 * i) >> 12) << 4 * i;
  out.header[0] = static_cast<std::uint8_t>(scale);
  out.header[1] = static_cast<std::uint8_t>(scale >> 8);
  const unsigned scales = load_u16(block + 48 + part / 2 * 2);
  for (int half = 0; half < 2; ++half)
    out.scales[half] = odd(scales >> 3 * (part % 2 * 2 + half) & 7U);
  for (int o = 0; o < 4; ++o) {
    const unsigned rest = static_cast<unsigned>(block[32 + 2 * part + o / 2]) >> 4 * (o % 2) & 15U;
    const unsigned sign = rest >> 3;
    put_octet(kIq1Grid[block[4 * part + o] | (rest & 7U) << 8],
              static_cast<std::uint8_t>(sign * 255U), o, out);
    out.scales[o / 2] = static_cast<std::uint8_t>(out.scales[o / 2] | sign << (4 + o % 2));
  }
}

}  // namespace readers

}  // namespace lapidary
