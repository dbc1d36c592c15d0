// Included last: the table of an ISA whose integer kernels come from matmul-inl.h.

inline constexpr Kernels make_table(const char* name) {
  return {
      .name = name,
      .matmul = {matmul_quantized<Packing::kQ4_0, false>, matmul_quantized<Packing::kQ4_1, false>,
                 matmul_quantized<Packing::kQ5_0, false>, matmul_quantized<Packing::kQ5_1, false>,
                 matmul_quantized<Packing::kQ8_0, false>, matmul_quantized<Packing::kQ4_K, false>,
                 matmul_quantized<Packing::kQ5_K, false>, matmul_quantized<Packing::kQ6_K, false>,
                 matmul_dense<false>, matmul_dense<true>},
      .matmul16 = {matmul_quantized<Packing::kQ4_0, true>, matmul_quantized<Packing::kQ4_1, true>,
                   matmul_quantized<Packing::kQ5_0, true>, matmul_quantized<Packing::kQ5_1, true>,
                   matmul_quantized<Packing::kQ8_0, true>, matmul_quantized<Packing::kQ4_K, true>,
                   matmul_quantized<Packing::kQ5_K, true>, matmul_quantized<Packing::kQ6_K, true>,
                   matmul_dense<false>, matmul_dense<true>},
      .quantize = quantize,
      .quantize16 = quantize16,
      .quantize_part = quantize_part,
      .quantize16_part = quantize16_part,
      .rmsnorm = rmsnorm,
      .rmsnorm_add = rmsnorm_add,
      .rope = rope,
      .gelu_mul = gelu_mul,
      .attention = attention,
      .attention_finish = attention_finish,
      .int8_peak = int8_peak,
      .resample_rows = resample_rows,
      .resample_pixels = resample_pixels,
  };
}
