#include "data.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <utility>

#include "../unit/block_scales.h"
#include "base/layout.h"
#include "kernels/half.h"
#include "kernels/split.h"

namespace lapidary {
namespace {

using kernels::kBlock;
using kernels::kPanelRows;
using kernels::Packing;

constexpr std::size_t kCachedBytes = std::size_t{256} << 10;
constexpr std::size_t kLargeBytes = std::size_t{512} << 20;
constexpr std::size_t kFewestLargeBytes = std::size_t{64} << 20;

std::mt19937& generator() {
  static std::mt19937 random(1);
  return random;
}

/// An fp16 or bf16 number with a random sign and mantissa, between 2^-10 and 2^-6.
std::uint16_t random_half() {
  const auto bits = static_cast<std::uint32_t>(generator()());
  return static_cast<std::uint16_t>((bits & 0x83FFU) | (5 + (bits >> 16) % 4) << 10);
}
std::uint16_t random_brain() {
  const auto bits = static_cast<std::uint32_t>(generator()());
  return static_cast<std::uint16_t>((bits & 0x807FU) | (117 + (bits >> 16) % 4) << 7);
}

template <class Number>
void fill_with(std::vector<std::byte>& data, Number number) {
  for (std::size_t at = 0; at + 2 <= data.size(); at += 2) {
    const std::uint16_t bits = number();
    std::memcpy(&data[at], &bits, 2);
  }
}

std::size_t row_bytes(const Form& form, int columns) {
  const BlockTraits& traits = *find_block_traits(form.type);
  return static_cast<std::size_t>(columns) / traits.values * traits.bytes;
}

/// kPanelRows rows as a file holds them.
std::vector<std::byte> file_rows(const Form& form, int columns) {
  std::vector<std::byte> data(row_bytes(form, columns) * kPanelRows);
  if (form.packing == Packing::kBF16) {
    fill_with(data, random_brain);
  } else if (form.packing == Packing::kF16) {
    fill_with(data, random_half);
  } else {
    for (std::byte& b : data) b = static_cast<std::byte>(generator()() & 255U);
    const BlockTraits& traits = *find_block_traits(form.type);
    for (std::size_t at = 0; at < data.size(); at += traits.bytes) {
      set_scales(traits, &data[at], random_half);
    }
  }
  return data;
}

bool in_planes(Packing packing) { return static_cast<int>(packing) >= kernels::kPanelPackings; }

kernels::SplitLayout layout_of(const Form& form, int columns) {
  return {form.type == BlockType::kQ6_K ? Packing::kQ6Split : Packing::kQ8Split, columns};
}

/// The three planes; `second` gets the one that is read beside the top panel.
bool pack_planes(const Form& form, int columns, const std::vector<std::byte>& rows, std::byte* top,
                 std::byte* second) {
  const kernels::SplitLayout layout = layout_of(form, columns);
  std::vector<std::byte> middle(layout.middle_bytes()), low(layout.low_bytes());
  const kernels::SplitPanels out{top, form.packing == Packing::kQ8Top5 ? second : middle.data(),
                                 kernels::is_split(form.packing) ? second : low.data()};
  return kernels::pack_split_panel(form.type, rows.data(), row_bytes(form, columns), kPanelRows,
                                   columns, out);
}

void pack(const Form& form, int columns, std::byte* panel, std::byte* low) {
  const std::vector<std::byte> rows = file_rows(form, columns);
  bool packed = false;
  if (in_planes(form.packing)) {
    packed = pack_planes(form, columns, rows, panel, low);
  } else {
    packed = kernels::pack_panel(form.packing, form.type, rows.data(), row_bytes(form, columns),
                                 kPanelRows, columns, panel);
  }
  if (!packed) {
    std::fprintf(stderr, "kernels_benchmark: rows of %s could not be packed\n",
                 std::string(form.name).c_str());
    std::abort();
  }
}

/// As many panels as `bytes` hold, an even number as in every matrix of the models, and where they
/// will lie in `memory`.
Matrix lay_out(const Form& form, int columns, std::size_t bytes, const std::byte* memory) {
  Matrix m{};
  m.columns = columns;
  const kernels::SplitLayout layout = layout_of(form, columns);
  m.panel_bytes =
      in_planes(form.packing) ? layout.top_bytes() : kernels::panel_bytes(form.packing, columns);
  if (kernels::is_split(form.packing)) m.low_bytes = layout.low_bytes();
  if (form.packing == Packing::kQ8Top5) m.low_bytes = layout.middle_bytes();
  const std::size_t count = std::max<std::size_t>(1, bytes / (m.panel_bytes + m.low_bytes) / 2) * 2;
  m.panel_count = static_cast<int>(count);
  m.panels = memory;
  if (m.low_bytes > 0) m.low = memory + count * m.panel_bytes;
  return m;
}

struct OwnedMatrix {
  HugeBuffer memory;
  Matrix matrix;
};

OwnedMatrix make_matrix(const Form& form, int columns) {
  const Matrix planned = lay_out(form, columns, kCachedBytes, nullptr);
  OwnedMatrix owned{HugeBuffer(planned.bytes()), {}};
  std::byte* panels = owned.memory.data();
  owned.matrix = lay_out(form, columns, kCachedBytes, panels);
  const Matrix& m = owned.matrix;
  for (std::size_t p = 0; p < static_cast<std::size_t>(m.panel_count); ++p) {
    std::byte* low = panels + static_cast<std::size_t>(m.panel_count) * m.panel_bytes;
    pack(form, columns, panels + p * m.panel_bytes,
         m.low_bytes > 0 ? low + p * m.low_bytes : nullptr);
  }
  return owned;
}

/// Fills `out` with copies of `pattern`.
void repeat(const std::byte* pattern, std::size_t length, std::byte* out, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += length)
    std::memcpy(out + at, pattern, std::min(length, bytes - at));
}

std::size_t input_bytes(int tokens, int columns, kernels::ActivationBits bits) {
  Layout layout(nullptr);
  kernels::place_input(layout, tokens, columns, bits);
  return layout.bytes();
}

kernels::ActivationBits bits_of(bool in_16_bits) {
  return in_16_bits ? kernels::ActivationBits::k16 : kernels::ActivationBits::k8;
}

}  // namespace

std::span<const Form> forms() {
  static const std::vector<Form> all = [] {
    std::vector<Form> made;
    for (const BlockTraits& traits : kBlockTraits) {
      if (traits.type != BlockType::kF32)
        made.push_back({traits.packing, traits.name, traits.type});
    }
    made.push_back({Packing::kQ8Split, "Q8Split", BlockType::kQ8_0});
    made.push_back({Packing::kQ8Top, "Q8Top", BlockType::kQ8_0});
    made.push_back({Packing::kQ8Top5, "Q8Top5", BlockType::kQ8_0});
    made.push_back({Packing::kQ6Split, "Q6Split", BlockType::kQ6_K});
    made.push_back({Packing::kQ6Top, "Q6Top", BlockType::kQ6_K});
    return made;
  }();
  return all;
}

const Matrix& cached_matrix(const Form& form, int columns) {
  static std::map<std::pair<Packing, int>, OwnedMatrix> made;
  const std::pair key(form.packing, columns);
  auto found = made.find(key);
  if (found == made.end()) found = made.emplace(key, make_matrix(form, columns)).first;
  return found->second.matrix;
}

std::span<std::byte> large_memory() {
  static const HugeBuffer buffer = [] {
    const auto affordable = static_cast<std::size_t>(available_memory() / 4);
    HugeBuffer made(std::clamp(affordable, kFewestLargeBytes, kLargeBytes));
    std::memset(made.data(), 1, made.size());
    return made;
  }();
  return {buffer.data(), buffer.size()};
}

const Matrix& streamed_matrix(const Form& form, int columns) {
  static Matrix filled{};
  static Packing packing{};
  if (filled.columns == columns && packing == form.packing) return filled;
  const std::span<std::byte> memory = large_memory();
  const Matrix& pattern = cached_matrix(form, columns);
  filled = lay_out(form, columns, memory.size(), memory.data());
  packing = form.packing;
  const auto count = static_cast<std::size_t>(filled.panel_count),
             length = static_cast<std::size_t>(pattern.panel_count);
  repeat(pattern.panels, length * pattern.panel_bytes, memory.data(), count * filled.panel_bytes);
  if (filled.low_bytes > 0) {
    repeat(pattern.low, length * pattern.low_bytes, memory.data() + count * filled.panel_bytes,
           count * filled.low_bytes);
  }
  return filled;
}

Activations::Activations(int tokens, int columns, bool in_16_bits)
    : values(random_floats(static_cast<std::size_t>(tokens) * static_cast<std::size_t>(columns))),
      arena(input_bytes(tokens, columns, bits_of(in_16_bits))) {
  Layout layout(&arena);
  quantized = kernels::place_input(layout, tokens, columns, bits_of(in_16_bits));
  const kernels::Kernels& table = *kernels::best();  // All tables give the same bits.
  for (int t = 0; t < tokens; ++t) {
    const float* x = values.data() + static_cast<std::ptrdiff_t>(t) * columns;
    (in_16_bits ? table.quantize16 : table.quantize)(x, columns, quantized, t);
  }
}

const Activations& activations(int tokens, int columns, bool in_16_bits) {
  static std::map<std::tuple<int, int, bool>, std::unique_ptr<Activations>> made;
  std::unique_ptr<Activations>& found = made[{tokens, columns, in_16_bits}];
  if (found == nullptr) found = std::make_unique<Activations>(tokens, columns, in_16_bits);
  return *found;
}

std::vector<float> random_floats(std::size_t count, float size) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& v : values) {
    const float drawn = normal(generator());
    v = size * std::copysign(std::max(std::fabs(drawn), 1e-3F), drawn);
  }
  return values;
}

std::vector<std::uint16_t> random_bf16(std::size_t count) {
  std::vector<std::uint16_t> values(count);
  for (std::uint16_t& v : values) v = random_brain();
  return values;
}

}  // namespace lapidary
