#pragma once

#include <cstddef>
#include <cstdint>

#include "formats/blocks.h"
#include "kernels/activations.h"
#include "kernels/kv_layout.h"

/// Everything that depends on an instruction set, behind one table of function pointers. No
/// threads, no allocation, no exceptions, no standard containers. Every function gives the same
/// bits on every ISA: float code is written once over sixteen lanes (float-inl.h), and integer sums
/// are exact.
namespace lapidary::kernels {

inline constexpr int kPanelRows = 16;  // Rows of a weight matrix that lie interleaved.
inline constexpr int kSegment =
    512;  // Keys whose softmax is finished before they are merged; aligned to positions.
inline constexpr int kResampleBits = 22;   // Weights of a resize: 1 is 2^22.
inline constexpr int kResamplePixels = 5;  // RGB pixels that lie in sixteen lanes.

/// Block floating point: 16-bit integers of at most ±kBfpLevels that share one fp32 scale for up to
/// kBfpBlock values along k. A block's dot product fits int32 exactly: 128 · 4095² < 2³¹. Its error
/// relative to the block's length is at most sqrt(128) / (2 · 4095), 0.14 %.
inline constexpr int kBfpBlock = 128;
inline constexpr int kBfpLevels = 4095;

constexpr bool is_quantized(Packing packing) {
  return packing != Packing::kBF16 && packing != Packing::kF16 && packing != Packing::kCount;
}

/// Packings in panels (pack.h) come first, those in planes (split.h) behind them.
inline constexpr int kPanelPackings = static_cast<int>(Packing::kQ8Split);
inline constexpr int kPlanePackings = static_cast<int>(Packing::kCount) - kPanelPackings;

/// Bytes of one panel: kPanelRows rows of `columns` values.
std::size_t panel_bytes(Packing packing, int columns);

/// The packing of a matrix of `type`; kCount for what is no type. F16 stays F16 only for a `head`,
/// F32 becomes BF16.
Packing packing_for(BlockType type, bool head);

/// Packs kPanelRows rows, each `row_stride` bytes apart in the file's form `type`, into one panel.
/// `rows` < kPanelRows: the rest become zero. Returns false when a scale or value is not finite,
/// and touches nothing when rows of that type are not packed so.
bool pack_panel(Packing packing, BlockType type, const std::byte* rows_data, std::size_t row_stride,
                int rows, int columns, std::byte* panel);

/// The fp32 values of row `row` (0 … kPanelRows-1) of a panel.
void unpack_row(Packing packing, const std::byte* panel, int row, int columns, float* out);

/// One matrix product: `out[t · out_stride + r]` for rows r of panels [panel_begin, panel_end)
/// (counted from panel_begin) and tokens [0, tokens).
struct MatmulArgs {
  const std::byte* panels;  // The first panel of the matrix.
  std::size_t panel_bytes;
  int columns;
  int panel_begin, panel_end;
  const QuantizedInput* input;  // For quantised packings…
  const float* dense_input;     // … or [tokens][columns] for kBF16 and kF16.
  int token_begin, tokens;
  float* out;              // Points at (token_begin, panel_begin · 16).
  std::size_t out_stride;  // Floats between tokens.
  std::byte* scratch;      // matmul_scratch_bytes(columns), 64-byte aligned.
};

/// One product of a matrix in planes with 16-bit activations.
struct PlanesMatmulArgs {
  MatmulArgs top;           // Whose panels are the top ones.
  const std::byte* second;  // The first low panel; of kQ8Top5 the first middle one; else unused.
};

/// Bytes that one thread's matmul needs to hold the unpacked values of the panels that it takes at
/// a time.
std::size_t matmul_scratch_bytes(int columns);

/// What some query rows got from some keys: exponentials relative to the largest score.
struct AttentionPart {
  float* output;   // [rows][head_dim]: sums of values, not normalised.
  float* maximum;  // [rows]: the largest score; -inf where a row sees none of the keys.
  float* sum;      // [rows]: of exponentials.
};

/// Some query rows of one KV head against the cached keys of one segment.
struct AttentionArgs {
  const float* queries;  // [rows][head_dim], already scaled; rotate_query was called for each.
  int rows;              // Query rows: (token, head of the group).
  int head_dim;          // A multiple of 16, of 32 for KvFormat::kInt8; at most kMostHeadDim.
  KvFormat format;
  KvPages cache;
  std::int64_t first_key,
      last_key;  // Absolute, inclusive: the keys that any row sees. Within one segment.
  const std::int64_t* row_first;  // Per row, the first and …
  const std::int64_t* row_last;   // … the last key that it sees, absolute.
  float* scores;                  // Scratch, [rows][kSegment].
  AttentionPart part;             // The result.
};

/// A product in block floating point, `out[t · out_stride + r]` for rows r of `panel_count` panels.
/// Both sides are cut along k into blocks of `block` values (even, ≤ kBfpBlock), the last one
/// shorter.
struct BfpMatmulArgs {
  const std::int16_t* panels;  // [panel][columns / 2][16 rows][2]
  const float* panel_scales;   // [panel][blocks][16 rows]
  int panel_count;
  int columns;  // Even.
  int block;
  const std::int16_t* values;  // [tokens], value_stride apart: [columns]
  std::size_t value_stride;
  const float* scales;  // [tokens], scale_stride apart: [blocks]
  std::size_t scale_stride;
  int tokens;
  float* out;
  std::size_t out_stride;
  bool accumulate;  // Adds to `out` instead of replacing it.
};

/// What one pixel of a row that is resized is made of: kResamplePixels · groups pixels from `first`
/// on. The lanes past the last of them and past the end of the row have weight 0; the last group
/// begins within the row.
struct PixelTaps {
  int first;
  int groups;
  const std::int32_t* weights;  // [groups][16]: lane 3 · pixel + channel; lane 15 is 0.
};

/// What 64 bytes of a row of kQ6Split's low plane multiply: x of 256 values, in 16 bits.
struct alignas(64) TwoBitInput {
  std::int8_t high[4][64], low[4][64];  // [f][j]: x of the value in bits 2f and 2f+1 of byte j.
  float centres[16];                    // Of each half of a block: 1.5 · the sum of its x, in …
  float scales[16];                     // … units of this.
};

/// What a token's vector x is to the bounds and the low plane of a matrix in planes (split.h),
/// where the estimates come from the upper four (five) bits.
struct ScreenInput {
  int blocks;                   // Of 32 values.
  const std::int8_t* norms;     // [blocks, to a multiple of 4], 0 … kNormLevels: in units of …
  float norm_unit;              // … this, at least the length of each block of x; with slack.
  const TwoBitInput* two_bits;  // [blocks / 8], of kQ6Split. The rest is kQ8Split's:
  const float* low;     // [blocks][16]: x of k = j, what byte j of the low plane multiplies …
  const float* high;    // [blocks][16]: … and its upper nibble: x of k = j + 16 less 16 · low.
  const float* centre;  // [blocks][16]: lane 0 is -7.5 (-3.5) · the sum of the block, others 0.
  int mask;             // The bits of a low plane's byte that count: 0xFF (0x77).
};

struct Kernels {
  const char* name;

  /// Each output is acc = fma(float(block's int32 sum), weight scale · activation scale, acc) over
  /// k in order, then, for affine packings, acc = fma(−min, scaled_sum, acc) of the same block, or,
  /// where its halves have minima, acc = fma(float(m0 · sum of the first half + m1 · sum of the
  /// second), −min · activation scale, acc); one accumulator, whatever the number of tokens.
  void (*matmul[kPanelPackings])(const MatmulArgs&);
  /// The same with 16-bit activations: fma(product with the low plane, kLowShare, product with the
  /// high one), both as above.
  void (*matmul16[kPanelPackings])(const MatmulArgs&);
  /// As matmul16, for packing number kPanelPackings and those behind it.
  void (*matmul_planes[kPlanePackings])(const PlanesMatmulArgs&);

  void (*quantize)(const float* x, int columns, const QuantizedInput& out, int token);
  void (*quantize16)(const float* x, int columns, const QuantizedInput& out, int token);
  /// Blocks [first / 32, (first + count) / 32) of `token` alone, from `x` (count values).
  void (*quantize_columns)(const float* x, int first, int count, const QuantizedInput& out,
                           int token);
  void (*quantize16_columns)(const float* x, int first, int count, const QuantizedInput& out,
                             int token);
  /// Drops the low blocks of those blocks of `token` whose values are not far above the root mean
  /// square of all, by `squares`: they become zero, and sums follow. Fills in low_used.
  void (*drop_low_blocks)(const QuantizedInput& out, int token);

  /// out = x · rsqrt(mean(x²) + epsilon) · weight; `out` may be `x`. n is a multiple of 16.
  void (*rmsnorm)(const float* x, const float* weight, int n, float epsilon, float* out);
  /// x += rmsnorm(y)
  void (*rmsnorm_add)(const float* y, const float* weight, int n, float epsilon, float* x);
  /// NeoX halves: (x[j], x[j + n/2]) rotated by (cosine[j], sine[j]). In place. n is a multiple
  /// of 32.
  void (*rope)(float* x, const float* cosine, const float* sine, int n);
  /// gate = gelu_tanh(gate) · up. n is a multiple of 16.
  void (*gelu_mul)(float* gate, const float* up, int n);

  /// Puts one position's key and value, head_dim values each, where a KV head's part of a page
  /// begins; `place` is the position's place in the page.
  void (*store_kv)(KvFormat format, const float* key, const float* value, int head_dim,
                   std::byte* head, int place);
  /// Turns a query, in place, as store_kv turns the keys of that format: their products stay.
  void (*rotate_query)(KvFormat format, float* query, int head_dim);
  void (*attention)(const AttentionArgs&);
  /// Adds what the rows got from the next segment to what they have got so far; segments are merged
  /// in the order of their keys. At first, output and sum are 0 and maximum is -inf.
  void (*attention_merge)(const AttentionPart& next, int rows, int head_dim,
                          const AttentionPart& so_far);
  /// output /= sum, over all rows.
  void (*attention_finish)(const AttentionPart& part, int rows, int head_dim);

  /// out = (x - mean(x)) · rsqrt(variance(x) + epsilon) · weight + bias; `out` may be `x`. Any n.
  void (*layernorm)(const float* x, const float* weight, const float* bias, int n, float epsilon,
                    float* out);
  /// x = gelu_tanh(x + bias). Any n.
  void (*bias_gelu)(float* x, const float* bias, int n);
  /// x += y + bias. Any n.
  void (*add_bias)(float* x, const float* y, const float* bias, int n);

  /// Each output is acc = fma(float(block's int32 sum), panel scale · scale, acc) over the blocks
  /// in order, whatever the number of tokens.
  void (*bfp_matmul)(const BfpMatmulArgs&);
  /// Rounds n values (any n) to integers, one scale for each `block`.
  void (*bfp_quantize)(const float* x, int n, int block, std::int16_t* values, float* scales);
  /// The panel whose rows are 16 columns of `x` ([keys], `stride` apart) and whose k are the `keys`
  /// (even): values [keys / 2][16][2], scales [blocks of kBfpBlock][16].
  void (*bfp_pack_columns)(const float* x, std::size_t stride, int keys, std::int16_t* values,
                           float* scales);
  /// One step of a softmax over rows of scores (`keys`, a multiple of 16): the exponentials
  /// relative to the running maximum in block floating point, in blocks of kBfpBlock. Updates the
  /// maximum and the running sum, and returns what the row's output so far must be multiplied by.
  float (*bfp_softmax)(const float* scores, int keys, float* maximum, float* sum,
                       std::int16_t* values, float* scales);

  /// For a panel with these bounds and units, whose rows' products with x are `estimates` [16]:
  /// upper[r] is at least what the product with all planes, rounded as matmul_planes rounds, can
  /// be. Returns the largest estimate.
  float (*screen_panel)(const std::byte* bounds, const ScreenInput& x, const float* estimates,
                        float* upper);
  /// What the low plane adds to the estimate of row `row` of a low panel, to within rounding: of
  /// kQ8Split and of kQ6Split.
  float (*screen_row)(const std::byte* low, int row, const ScreenInput& x);
  float (*screen_two_bit_row)(const std::byte* low, int row, const ScreenInput& x);

  /// Multiplications and additions of the int8 dot product done by `iterations` rounds of it in
  /// registers.
  std::uint64_t (*int8_peak)(std::uint64_t iterations);

  // Resizing, in integers: a weighted sum of bytes is (2^21 + Σ weight · byte) >> 22, at most 255.
  // Weights are not negative, and the sum before the shift stays below 2^31.
  /// out[i] = the weighted sum of row[i] over `count` rows that lie `stride` bytes apart, i < n.
  void (*resample_rows)(const std::uint8_t* rows, std::size_t stride, const std::int32_t* weights,
                        int count, int n, std::uint8_t* out);
  /// RGB pixel o of `out`, o < outputs, from the pixels of `row` (row_bytes long) that taps[o]
  /// names. Nothing past the row is read.
  void (*resample_pixels)(const std::uint8_t* row, std::size_t row_bytes, const PixelTaps* taps,
                          int outputs, std::uint8_t* out);
};

/// Some tables, for a range-based loop.
struct Tables {
  const Kernels* const* first;
  const Kernels* const* last;
  const Kernels* const* begin() const { return first; }
  const Kernels* const* end() const { return last; }
};

/// Tables that were built in and that this machine can run, best first; the scalar one is the last.
Tables available();
const Kernels* find(const char* name);  // nullptr: unknown, or not on this machine.
const Kernels* best();

}  // namespace lapidary::kernels
