// Included after matmul-inl.h's or the scalar matmuls: what a screened head does beyond products.
// The ISA gives load_u8_rows, mask_lanes, shift_right<bits> and bound_sum, which adds 64 bytes of
// bounds (16 rows × 4 blocks) times four norms to sixteen sums.

float screen_panel(const std::byte* bounds, const ScreenInput& x, const float* estimates,
                   float* upper) {
  const int groups = SplitLayout(x.blocks * kBlock).bound_groups();
  I sums = broadcast_int(0);
  for (int g = 0; g < groups; ++g)
    sums = bound_sum(sums, reinterpret_cast<const std::uint8_t*>(bounds) + 64 * g, x.norms + 4 * g);
  const F units = load(reinterpret_cast<const float*>(bounds + 64 * groups));
  const F estimate = load(estimates);
  store(upper, fma(to_float(sums), mul(units, broadcast(x.norm_unit)), estimate));
  return reduce_max(estimate);
}

float screen_row(const std::byte* low, int row, const ScreenInput& x) {
  const SplitLayout layout(x.blocks * kBlock);
  const auto* panel = reinterpret_cast<const std::uint8_t*>(low);
  const std::uint8_t* bytes = panel + layout.low_row(row);
  const std::uint8_t* scales = panel + layout.row_scales(row);
  F sum = broadcast(0.0F);
  for (int first = 0; first < x.blocks; first += 16, scales += 32) {
    alignas(64) float scale[16];
    store(scale, load_half(scales));  // May read on into the rests, no further.
    const int end = first + 16 < x.blocks ? first + 16 : x.blocks;
    for (int b = first; b < end; ++b) {
      const I pair = mask_lanes(load_u8_rows(bytes + 16 * b), x.mask);
      F block = fma(to_float(pair), load(x.low + 16 * b), load(x.centre + 16 * b));
      block = fma(to_float(shift_right<4>(pair)), load(x.high + 16 * b), block);
      sum = fma(block, broadcast(scale[b - first]), sum);
    }
  }
  return reduce_add(sum);
}
