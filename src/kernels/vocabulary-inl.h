// The contract of an instruction set: what its lanes must give before the fragments can be compiled
// for it. A primitive that is missing, or whose type is another, fails here with its name and with
// what it must do; docs/adding-an-isa.md says how to begin.
//
// An instruction set's file defines LAPIDARY_BYTE_PRODUCTS, how many products of bytes its
// instructions add up: 4 in 32 bits (dot-inl.h), or 2 in 16 bits (maddubs-inl.h). With 1 the file
// has quantised products of its own, as the scalar reference does, which do without Bytes. Then it
// enters its target region, opens an unnamed namespace, and includes its lanes and generic-inl.h.
//
// Where nothing is defined a fragment is read alone, as by an editor: on the scalar lanes.
#pragma once

#if !defined(LAPIDARY_BYTE_PRODUCTS)
#include "kernels/alone.h"
#endif

// Three types, without a size or an order in memory of their own:
//   Floats  sixteen lanes of fp32
//   Ints    sixteen lanes of int32; or, of lanes that hold two int16 each, 32 "words"
//   Bytes   64 bytes: four of each of sixteen rows, row by row (a "group" of pack.h). It may be the
//           same type as Ints.
// Values of every type that a primitive may be called with.
struct Samples {
  Floats x;
  Ints n;
  Bytes q;
  float number;
  std::int32_t integer;
  std::uint64_t rounds;
  std::size_t stride;
  const float* floats;
  const std::int32_t* ints;
  const std::uint8_t* bytes;
  const std::int8_t* int8s;
  const std::int16_t* int16s;
  const std::uint16_t* bf16s;
  const std::uint32_t* words;
  float* to_floats;
  std::int32_t* to_ints;
  std::uint8_t* to_bytes;
  std::int8_t* to_int8s;
  std::int16_t* to_int16s;
  Bytes* to_groups;
};

// Has `call` compile with the members of Samples `at`, and give a Result.
#define LAPIDARY_NEEDS(Result, call, does)                                                 \
  static_assert(                                                                           \
      []<class Sample>(Sample*) {                                                          \
        return requires(Sample & at) { requires std::is_same_v<Result, decltype(call)>; }; \
      }(static_cast<Samples*>(nullptr)),                                                   \
      #Result " " #call ": " does)

// Moving lanes. No pointer need be aligned, unless that is said.
LAPIDARY_NEEDS(Floats, load(at.floats), "sixteen floats");
LAPIDARY_NEEDS(void, store(at.to_floats, at.x), "sixteen floats");
LAPIDARY_NEEDS(Ints, load_int(at.ints), "sixteen int32");
LAPIDARY_NEEDS(void, store_int(at.to_ints, at.n), "sixteen int32");
LAPIDARY_NEEDS(Floats, broadcast(at.number), "the number in every lane");
LAPIDARY_NEEDS(Ints, broadcast_int(at.integer), "the number in every lane");

// Arithmetic, lane by lane, correctly rounded: what is written with these has the same bits
// everywhere.
LAPIDARY_NEEDS(Floats, add(at.x, at.x), "x + y");
LAPIDARY_NEEDS(Floats, sub(at.x, at.x), "x - y");
LAPIDARY_NEEDS(Floats, mul(at.x, at.x), "x y");
LAPIDARY_NEEDS(Floats, div(at.x, at.x), "x / y");
LAPIDARY_NEEDS(Floats, fma(at.x, at.x, at.x), "x y + z, rounded once, whatever that costs");
LAPIDARY_NEEDS(Floats, max(at.x, at.x), "x > y ? x : y, so y where either is a NaN");
LAPIDARY_NEEDS(Floats, min(at.x, at.x), "x < y ? x : y, so y where either is a NaN");
LAPIDARY_NEEDS(Floats, absolute(at.x), "without the sign");
LAPIDARY_NEEDS(Ints, add(at.n, at.n), "x + y");
LAPIDARY_NEEDS(Ints, sub(at.n, at.n), "x - y");
LAPIDARY_NEEDS(Ints, mul(at.n, at.n), "the lower 32 bits of x y");
LAPIDARY_NEEDS(Floats, to_float(at.n), "rounded to nearest, ties to even");
LAPIDARY_NEEDS(Ints, round_to_int(at.x), "rounded to nearest, ties to even");
LAPIDARY_NEEDS(Floats, power_of_two(at.n), "2^n, -126 ≤ n ≤ 127");
LAPIDARY_NEEDS(float, reduce_add(at.x),
               "lanes i and i + 8 added, then i and i + 4, i + 2, i + 1: in this order");
LAPIDARY_NEEDS(float, reduce_max(at.x), "the largest lane; of no NaN");

// Changing types.
LAPIDARY_NEEDS(Floats, load_half(at.bytes), "sixteen fp16; their subnormals are no zeros");
LAPIDARY_NEEDS(Floats, load_even_bf16(at.bf16s), "of 32 bf16 those at even places");
LAPIDARY_NEEDS(Floats, load_odd_bf16(at.bf16s), "of 32 bf16 those at odd places");
LAPIDARY_NEEDS(Floats, load_bf16(at.bf16s), "sixteen bf16");
LAPIDARY_NEEDS(Floats, load_int8(at.int8s), "sixteen int8");
LAPIDARY_NEEDS(Ints, load_u8_rows(at.bytes), "sixteen bytes, 0 … 255");
LAPIDARY_NEEDS(void, store_bytes(at.to_bytes, at.n),
               "sixteen bytes: the lanes, which are not negative, at most 255 each");
LAPIDARY_NEEDS(void, store_words(at.to_int16s, at.n), "sixteen int16, which hold the lanes");
LAPIDARY_NEEDS(int, narrow_block(at.n, at.n, at.to_int8s, at.to_int16s),
               "stores a block's first and second sixteen int8, whose values the lanes are, and "
               "their sums as QuantizedInput's `sums` says; the sum of all");

// Bits and words.
LAPIDARY_NEEDS(Ints, mask_lanes(at.n, at.integer), "the bits of the mask, in every lane");
LAPIDARY_NEEDS(Ints, shift_right<4>(at.n), "n / 2^bits, of lanes that are not negative");
LAPIDARY_NEEDS(Ints, merge_pairs(at.n, at.n), "words: the first's lanes, the second's lanes");
LAPIDARY_NEEDS(void, dot_pairs(at.n, at.n, at.integer),
               "adds to each lane of the first its two words of the second times those of x");

// How much of a kernel lies in registers, and what a benchmark measures against.
static_assert(kRowTile > 0 && kAttentionChains >= kRowTile,
              "kRowTile, kAttentionChains: query rows of a tile, and the sums that keep the "
              "multipliers busy");
static_assert(kDenseTile > 0, "kDenseTile: tokens of a product with 16-bit floats");
static_assert(kBfpPanels > 0 && kBfpTile > 0, "kBfpPanels, kBfpTile: panels and tokens of a tile");
LAPIDARY_NEEDS(std::uint64_t, int8_peak(at.rounds),
               "as many multiplications and additions of bytes as it does: a table's int8_peak");

#if LAPIDARY_BYTE_PRODUCTS > 1
// Groups of 64 bytes.
LAPIDARY_NEEDS(Bytes, load_group(at.bytes), "64 bytes");
LAPIDARY_NEEDS(void, store_group(at.to_bytes, at.q), "64 bytes");
LAPIDARY_NEEDS(Bytes, nibble_low(at.q), "bits 0 … 3 of every byte");
LAPIDARY_NEEDS(Bytes, nibble_high(at.q), "bits 4 … 7 of every byte");
LAPIDARY_NEEDS(Bytes, (bit_field<2, 4>(at.q)), "bits shift … shift + bits - 1 of every byte");
LAPIDARY_NEEDS(Bytes, (merge_plane<2, 0x30>(at.q, at.q)),
               "to every byte of the first, below 16: the second's, shifted so that bit `shift` "
               "becomes bit 4, and masked");
LAPIDARY_NEEDS(Bytes, append_bits<2>(at.q, at.q), "2^bits q + low, of bytes that stay below 256");
LAPIDARY_NEEDS(Bytes, join_nibbles(at.q, at.q), "int8: 16 · (high - 8) + low, both 0 … 15");
LAPIDARY_NEEDS(Bytes, look_up(at.q, at.bytes),
               "every byte, 0 … 15, becomes that of a table of 16 bytes, which is aligned to 16");
LAPIDARY_NEEDS(Bytes, (look_up_fours(at.bytes, at.words)),
               "of a table of 256 words, which is aligned to 64, those that sixteen bytes number");
LAPIDARY_NEEDS(Bytes, negate_where<3>(at.q, at.q),
               "of int8 those are negated where that bit of the second's byte is set");
LAPIDARY_NEEDS(Bytes, spread_rows(at.bytes), "of sixteen bytes each one four times: a row's");
LAPIDARY_NEEDS(void, load_low_rows(at.bytes, at.stride, at.to_groups),
               "from sixteen rows of 16 bytes, `stride` apart, four groups: of every row bytes "
               "0 … 3, 4 … 7, …");
LAPIDARY_NEEDS(Ints, load_half_scales(at.bytes),
               "sixteen int8 as block_sums takes them: int32, or each twice as words");
static_assert(kTile > 0 && kPlainPanels > 0 && kPlainTokens > 0,
              "kTile, kPlainPanels, kPlainTokens: as matmul-inl.h says");
static_assert(std::is_same_v<decltype(kFewRegisters), const bool>, "kFewRegisters: matmul-inl.h");
static_assert(kByteBias == 0 || kByteBias == 128,
              "kByteBias: what signed bytes have added before they are multiplied");
#endif

#if LAPIDARY_BYTE_PRODUCTS == 4
LAPIDARY_NEEDS(Bytes, load_weights<8>(at.q),
               "a group's weights as `dot` takes them: of 8 bits, plus kByteBias");
LAPIDARY_NEEDS(Ints, dot(at.n, at.q, at.int8s),
               "adds to each row's sum its four bytes of q, 0 … 255 or, where kByteBias is 0, "
               "signed, times the same four int8");
LAPIDARY_NEEDS(Ints, dot_each(at.n, at.q, at.int8s),
               "as `dot`, of bytes below 128 and of 64 int8: four for each row");
LAPIDARY_NEEDS(Ints, times_total<128>(at.int16s), "factor · (p[0] + p[1]), |factor| ≤ 128");
#elif LAPIDARY_BYTE_PRODUCTS == 2
LAPIDARY_NEEDS(void, first_products(at.n, at.q, at.int8s),
               "words: of each row's four bytes, 0 … 255, times the same four int8, the first two "
               "products added, and the last two");
LAPIDARY_NEEDS(void, add_products(at.n, at.q, at.int8s), "the same added to words, which wrap");
LAPIDARY_NEEDS(Ints, products_each(at.q, at.int8s),
               "as first_products, of 64 int8: four for each row");
LAPIDARY_NEEDS(Bytes, magnitudes(at.q), "of int8, up to 128");
LAPIDARY_NEEDS(Ints, signed_products(at.q, at.q, at.int8s),
               "as first_products, of int8 that are given as their magnitudes and as they are");
LAPIDARY_NEEDS(Ints, broadcast_words(at.int16s), "two int16 in every lane");
LAPIDARY_NEEDS(Ints, sub_words(at.n, at.n), "x - y");
LAPIDARY_NEEDS(Ints, times<-8>(at.n), "every word times the factor");
LAPIDARY_NEEDS(Ints, widen(at.n, at.n),
               "each lane's two words times the other's, added in 32 bits");
LAPIDARY_NEEDS(void, keep_chain(at.n),
               "nothing; the compiler sees the sum change, and leaves it where it is");
#endif

#undef LAPIDARY_NEEDS
