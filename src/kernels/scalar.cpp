#include "kernels/isa.h"

#define LAPIDARY_BYTE_PRODUCTS 1

// The plain reference: float code over sixteen lanes of an array, and quantised matmuls as the
// contract in kernels.h says them.
namespace lapidary::kernels {
namespace {

#include "kernels/lanes-scalar-inl.h"
// Then, of the fragments, what the products below use.
#include "kernels/float-inl.h"

// A row's product with one part of the activations: one block more.
template <Packing kPacking>
float add_block(const RowBlock& w, const std::int8_t* values, float scale, float scaled_sum,
                float acc) {
  acc = std::fma(static_cast<float>(dot(w.values, values)), w.scale * scale, acc);
  if (packed_traits(kPacking).scheme == Scheme::kHalfAffine) {
    int minimums = 0;
    for (int k = 0; k < kBlock; ++k) minimums += w.minimums[k / 16] * values[k];
    return std::fma(static_cast<float>(minimums), w.offset * scale, acc);
  }
  if (packed_traits(kPacking).scheme == Scheme::kAffine) acc = std::fma(w.offset, scaled_sum, acc);
  return acc;
}

// `read(panel, block, row, RowBlock&)` gives a row's share of a block.
template <Packing kPacking, bool k16Bits, class Read>
void matmul_rows(const MatmulArgs& a, Read read) {
  const QuantizedInput& in = *a.input;
  const int blocks = a.columns / kBlock;
  for (int row = 0; row < (a.panel_end - a.panel_begin) * kPanelRows; ++row) {
    const auto panel = static_cast<std::size_t>(a.panel_begin + row / kPanelRows);
    for (int t = 0; t < a.tokens; ++t) {
      float high = 0.0F, low = 0.0F;
      for (int b = 0; b < blocks; ++b) {
        RowBlock w;
        read(panel, b, row % kPanelRows, w);
        const std::size_t at = in.blocks(a.token_begin + t) + static_cast<std::size_t>(b);
        high = add_block<kPacking>(w, in.high.values + at * kBlock, in.scales[at],
                                   in.high.scaled_sums[at], high);
        if (k16Bits)
          low = add_block<kPacking>(w, in.low.values + at * kBlock, in.scales[at],
                                    in.low.scaled_sums[at], low);
      }
      a.out[static_cast<std::size_t>(t) * a.out_stride + static_cast<std::size_t>(row)] =
          k16Bits ? std::fma(low, kLowShare, high) : high;
    }
  }
}

template <Packing kPacking, bool k16Bits>
void matmul_quantized(const MatmulArgs& a) {
  matmul_rows<kPacking, k16Bits>(a, [&](std::size_t panel, int block, int row, RowBlock& out) {
    read_row_block(kPacking, a.panels + panel * a.panel_bytes, block, row, out);
  });
}

template <Packing kPacking>
void matmul_split(const PlanesMatmulArgs& planes) {
  const MatmulArgs& a = planes.top;
  const SplitLayout layout(kPacking, a.columns);
  const auto read = [&](std::size_t panel, int block, int row, RowBlock& out) {
    read_split_block(layout, a.panels + panel * layout.top_bytes(),
                     planes.second + panel * layout.low_bytes(), block, row, out);
  };
  matmul_rows<kPacking, true>(a, read);
}

void matmul_top5(const PlanesMatmulArgs& planes) {
  const MatmulArgs& a = planes.top;
  const SplitLayout layout(Packing::kQ8Split, a.columns);
  const auto read = [&](std::size_t panel, int block, int row, RowBlock& out) {
    read_top5_block(a.panels + panel * layout.top_bytes(),
                    planes.second + panel * layout.middle_bytes(), block, row, out);
  };
  matmul_rows<Packing::kQ8Top5, true>(a, read);
}

// The sums of a screened head.
inline Ints bound_sum(const Ints& sum, const std::uint8_t* bounds, const std::int8_t* norms) {
  Ints out = sum;
  for (int i = 0; i < 64; ++i) out.lane[i / 4] += bounds[i] * norms[i % 4];
  return out;
}
template <int kField>
inline Ints two_bit_sum(const Ints& sum, const std::uint8_t* bits, const std::int8_t* x) {
  Ints out = sum;
  for (int i = 0; i < 64; ++i) out.lane[i / 4] += (bits[i] >> 2 * kField & 3) * x[i];
  return out;
}

#include "kernels/generic-inl.h"

}  // namespace

const InstructionSet kScalar = {make_table("scalar"), ""};

}  // namespace lapidary::kernels
