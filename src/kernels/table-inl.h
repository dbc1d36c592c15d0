// The table of an ISA.
#pragma once

#include "kernels/attention-inl.h"
#include "kernels/bfp-inl.h"
#include "kernels/dense-inl.h"
#include "kernels/resample-inl.h"
#include "kernels/screen-inl.h"
#if LAPIDARY_BYTE_PRODUCTS > 1
#include "kernels/split-inl.h"
#endif

template <Packing kPacking, bool k16Bits>
constexpr auto product() -> void (*)(const MatmulArgs&) {
  if constexpr (!is_quantized(kPacking)) {
    return matmul_dense<kPacking == Packing::kF16>;
  } else {
    return matmul_quantized<kPacking, k16Bits>;
  }
}

template <Packing kPacking>
void matmul_top(const PlanesMatmulArgs& planes) {
  matmul_quantized<kPacking, true>(planes.top);
}

template <Packing kPacking>
constexpr auto planes_product() -> void (*)(const PlanesMatmulArgs&) {
  if constexpr (is_split(kPacking)) {
    return matmul_split<kPacking>;
  } else if constexpr (kPacking == Packing::kQ8Top5) {
    return matmul_top5;
  } else {
    return matmul_top<kPacking>;
  }
}

// The products of all packings from number kFirst on.
template <int kFirst = 0>
constexpr void fill_products(Kernels& table) {
  constexpr auto kPacking = static_cast<Packing>(kFirst);
  if constexpr (kFirst < kPanelPackings) {
    table.matmul[kFirst] = product<kPacking, false>();
    table.matmul16[kFirst] = product<kPacking, true>();
  } else {
    table.matmul_planes[kFirst - kPanelPackings] = planes_product<kPacking>();
  }
  if constexpr (kFirst + 1 < static_cast<int>(Packing::kCount)) fill_products<kFirst + 1>(table);
}

inline constexpr Kernels make_table(const char* name) {
  Kernels table = {
      .name = name,
      .matmul = {},
      .matmul16 = {},
      .matmul_planes = {},
      .quantize = quantize,
      .quantize16 = quantize16,
      .quantize_columns = quantize_columns,
      .quantize16_columns = quantize16_columns,
      .drop_low_blocks = drop_low_blocks,
      .rmsnorm = rmsnorm,
      .rmsnorm_add = rmsnorm_add,
      .rope = rope,
      .gelu_mul = gelu_mul,
      .store_kv = store_kv,
      .rotate_query = rotate_query,
      .attention = attention,
      .attention_merge = attention_merge,
      .attention_finish = attention_finish,
      .layernorm = layernorm,
      .bias_gelu = bias_gelu,
      .add_bias = add_bias,
      .bfp_matmul = bfp_matmul,
      .bfp_quantize = bfp_quantize,
      .bfp_pack_columns = bfp_pack_columns,
      .bfp_softmax = bfp_softmax,
      .screen_panel = screen_panel,
      .screen_row = screen_row,
      .screen_two_bit_row = screen_two_bit_row,
      .int8_peak = int8_peak,
      .resample_rows = resample_rows,
      .resample_pixels = resample_pixels,
  };
  fill_products(table);
  return table;
}
