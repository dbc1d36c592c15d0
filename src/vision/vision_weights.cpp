#include "vision/vision_weights.h"

#include <algorithm>
#include <atomic>
#include <string>

#include "base/boundary.h"
#include "base/cancel.h"
#include "formats/zero_tail.h"
#include "lapidary/error.h"

namespace lapidary {
namespace {

using kernels::kPanelRows;

/// A tensor and where it goes: a matrix (perhaps stored transposed) or fp32 values.
struct Slot {
  const TensorInfo* tensor;
  BfpMatrix* matrix;
  const float** values;
  bool transposed;
  bool bias;  // May be zeros.

  std::size_t bytes() const {
    if (matrix == nullptr)
      return Arena::planned(tensor->columns() * tensor->rows() * sizeof(float));
    return Arena::planned(matrix->value_count() * sizeof(std::int16_t)) +
           Arena::planned(matrix->scale_count() * sizeof(float));
  }
};

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text;
  for (std::uint64_t n : shape) text += (text.empty() ? "" : "x") + std::to_string(n);
  return text;
}

/// Collects the slots of all tensors, their shapes checked.
class Planner {
 public:
  Planner(const WeightSource& source, const VisionConfig& config, VisionWeights& weights)
      : source_(source), c_(config), w_(weights) {}

  std::vector<Slot> plan() {
    check();
    const int patch_values = 3 * c_.patch_size * c_.patch_size;
    matrix("v.patch_embd.weight", {size(c_.patch_size), size(c_.patch_size), 3, size(c_.width)},
           c_.width, patch_values, w_.patch.matrix);
    values("v.patch_embd.bias", {size(c_.width)}, w_.patch.bias);
    values("v.position_embd.weight", {size(c_.width), size(c_.patches())}, w_.positions);
    w_.layers.resize(size(c_.layers));
    for (std::size_t i = 0; i < w_.layers.size(); ++i)
      layer("v.blk." + std::to_string(i) + ".", w_.layers[i]);
    norm("v.post_ln", w_.post_norm);
    values("mm.soft_emb_norm.weight", {size(c_.width)}, w_.soft_norm);
    matrix("mm.input_projection.weight", {size(c_.text_width), size(c_.width)}, c_.text_width,
           c_.width, w_.projection, kernels::kBfpBlock, true);
    return std::move(slots_);
  }

 private:
  static std::size_t size(int n) { return static_cast<std::size_t>(n); }

  /// What the kernels ask for: values in pairs, a head within one block.
  void check() const {
    if (c_.head_dim % 2 == 0 && c_.head_dim <= kernels::kBfpBlock && c_.feed_forward % 2 == 0 &&
        c_.patch_size % 2 == 0)
      return;
    throw Error(ErrorCode::kFile, source_.path() + ": heads of " + std::to_string(c_.head_dim) +
                                      " values, a feed-forward width of " +
                                      std::to_string(c_.feed_forward) + " and patches of " +
                                      std::to_string(c_.patch_size) +
                                      " pixels: all must be even, and heads at most " +
                                      std::to_string(kernels::kBfpBlock));
  }

  void layer(const std::string& prefix, VisionLayer& out) {
    norm(prefix + "ln1", out.attention_norm);
    linear(prefix + "attn_q", c_.width, c_.width, out.query);
    linear(prefix + "attn_k", c_.width, c_.width, out.key);
    linear(prefix + "attn_v", c_.width, c_.width, out.value);
    // Its input is rounded head by head, as attention leaves it.
    linear(prefix + "attn_out", c_.width, c_.width, out.output, c_.head_dim);
    norm(prefix + "ln2", out.ffn_norm);
    // Older files call each by the other's name; the shape tells.
    const TensorInfo* down = source_.find(prefix + "ffn_down.weight");
    const bool exchanged = down != nullptr && c_.width != c_.feed_forward &&
                           down->columns() == static_cast<std::uint64_t>(c_.width);
    linear(prefix + (exchanged ? "ffn_down" : "ffn_up"), c_.width, c_.feed_forward, out.up);
    linear(prefix + (exchanged ? "ffn_up" : "ffn_down"), c_.feed_forward, c_.width, out.down);
  }

  void linear(const std::string& name, int columns, int rows, BiasedMatrix& out,
              int block = kernels::kBfpBlock) {
    matrix(name + ".weight", {size(columns), size(rows)}, rows, columns, out.matrix, block);
    values(name + ".bias", {size(rows)}, out.bias);
  }

  void norm(const std::string& name, LayerNorm& out) {
    values(name + ".weight", {size(c_.width)}, out.weight);
    values(name + ".bias", {size(c_.width)}, out.bias);
  }

  void matrix(const std::string& name, const std::vector<std::uint64_t>& shape, int rows,
              int columns, BfpMatrix& out, int block = kernels::kBfpBlock,
              bool transposed = false) {
    const TensorInfo& tensor = require(name, shape);
    out = {rows, columns, block, nullptr, nullptr};
    slots_.push_back({&tensor, &out, nullptr, transposed, false});
  }

  void values(const std::string& name, const std::vector<std::uint64_t>& shape, const float*& out) {
    slots_.push_back({&require(name, shape), nullptr, &out, false, name.ends_with(".bias")});
  }

  const TensorInfo& require(const std::string& name, const std::vector<std::uint64_t>& shape) {
    const TensorInfo* tensor = source_.find(name);
    if (tensor == nullptr)
      throw Error(ErrorCode::kFile, source_.path() + ": tensor " + name + " is missing");
    if (tensor->shape != shape) {
      throw Error(ErrorCode::kFile, source_.path() + ": tensor " + name + " is " +
                                        shape_text(tensor->shape) + ", expected " +
                                        shape_text(shape));
    }
    return *tensor;
  }

  const WeightSource& source_;
  const VisionConfig& c_;
  VisionWeights& w_;
  std::vector<Slot> slots_;
};

constexpr const char* kReading = "reading the vision model";

/// The values of `tensor` from value `first` on that fill `out`, in fp32; `tail` is shown their
/// bytes. Both ends must lie on block borders.
void read_values(const WeightSource& source, const TensorInfo& tensor, std::uint64_t first,
                 std::span<float> out, PagedVector<std::byte>& buffer, ZeroTail& tail) {
  const BlockTraits& traits = *find_block_traits(tensor.type);
  const std::uint64_t offset = first / traits.values * traits.bytes;
  buffer.resize(out.size() / traits.values * traits.bytes);
  source.read(tensor, offset, buffer);
  tail.look(offset, buffer);
  dequantize(tensor.type, buffer, out);
  for (float v : out) {
    if (!(v > -3e38F && v < 3e38F)) {
      throw Error(ErrorCode::kFile,
                  source.path() + ": tensor " + tensor.name + " holds a value that is not finite");
    }
  }
}

/// All values of `tensor`, in pieces, so that large ones can be interrupted.
void read_all_values(const WeightSource& source, const TensorInfo& tensor, std::span<float> out,
                     PagedVector<std::byte>& buffer, ZeroTail& tail,
                     const std::atomic<bool>* cancel) {
  constexpr std::size_t kPiece = std::size_t{256} * 1024;  // Values: a multiple of every block.
  for (std::size_t first = 0; first < out.size(); first += kPiece) {
    check_cancel(cancel, kReading);
    read_values(source, tensor, first, out.subspan(first, std::min(kPiece, out.size() - first)),
                buffer, tail);
  }
}

/// What one thread needs to pack a panel.
struct Buffers {
  PagedVector<std::byte> bytes;
  std::vector<float> rows;
  std::vector<std::int16_t> words;
};

void pack(const WeightSource& source, const Slot& slot, int panel, const kernels::Kernels& kernels,
          const std::vector<float>& transposed, Buffers& buffers, ZeroTail& tail) {
  const BfpMatrix& m = *slot.matrix;
  const auto columns = static_cast<std::size_t>(m.columns);
  const int first = panel * kPanelRows;
  const int count = std::min(kPanelRows, m.rows - first);
  buffers.rows.resize(columns * static_cast<std::size_t>(count));
  buffers.words.resize(columns);
  if (slot.transposed) {
    for (std::size_t r = 0; r < static_cast<std::size_t>(count); ++r) {
      const float* column = transposed.data() + static_cast<std::size_t>(first) + r;
      for (std::size_t k = 0; k < columns; ++k)
        buffers.rows[r * columns + k] = column[k * static_cast<std::size_t>(m.rows)];
    }
  } else {
    read_values(source, *slot.tensor, static_cast<std::uint64_t>(first) * columns, buffers.rows,
                buffers.bytes, tail);
  }
  const auto p = static_cast<std::size_t>(panel);
  pack_bfp_panel(kernels, buffers.rows.data(), columns, count, m.columns, m.block,
                 m.values + p * m.panel_values(), m.scales + p * m.panel_scales(),
                 buffers.words.data());
}

void check_tails(const WeightSource& source, const std::vector<Slot>& slots,
                 const std::vector<ZeroTail>& tails) {
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const Slot& slot = slots[i];
    const TensorKind kind = slot.matrix != nullptr ? TensorKind::kLayerMatrix : TensorKind::kOther;
    if (!slot.bias) check_tail(source, *slot.tensor, kind, tails[i]);
  }
}

}  // namespace

std::uint64_t vision_weight_bytes(const WeightSource& source, const VisionConfig& config) {
  VisionWeights shapes;
  std::uint64_t total = 0;
  for (const Slot& slot : Planner(source, config, shapes).plan()) total += slot.bytes();
  return total;
}

std::string unused_vision_tensors(const WeightSource& source, const VisionConfig& config) {
  VisionWeights shapes;
  std::vector<const TensorInfo*> used;
  for (const Slot& slot : Planner(source, config, shapes).plan()) used.push_back(slot.tensor);
  return describe_unused(source, used, "v.blk.");
}

std::unique_ptr<const VisionWeights> load_vision_weights(const WeightSource& source,
                                                         const VisionConfig& config,
                                                         const kernels::Kernels& kernels,
                                                         Team& team, const Progress& progress,
                                                         const std::atomic<bool>* cancel) {
  auto weights = std::make_unique<VisionWeights>();
  weights->config = config;
  weights->kernels = &kernels;
  const std::vector<Slot> slots = Planner(source, weights->config, *weights).plan();
  std::size_t bytes = 0;
  std::uint64_t total = 0;
  for (const Slot& slot : slots) {
    bytes += slot.bytes();
    total += slot.tensor->bytes;
  }
  weights->arena = Arena(bytes);
  std::vector<float> transposed;  // The projection as the file has it.
  PagedVector<std::byte> buffer;
  std::vector<ZeroTail> tails(slots.size());
  std::vector<std::pair<std::size_t, int>> panels;  // Which slot, and which of its panels.
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const Slot& slot = slots[i];
    if (slot.matrix == nullptr) {
      const auto values =
          weights->arena.allocate_array<float>(slot.tensor->columns() * slot.tensor->rows());
      read_all_values(source, *slot.tensor, values, buffer, tails[i], cancel);
      *slot.values = values.data();
      continue;
    }
    BfpMatrix& m = *slot.matrix;
    m.values = weights->arena.allocate_array<std::int16_t>(m.value_count()).data();
    m.scales = weights->arena.allocate_array<float>(m.scale_count()).data();
    if (slot.transposed) {
      transposed.resize(slot.tensor->columns() * slot.tensor->rows());
      read_all_values(source, *slot.tensor, transposed, buffer, tails[i], cancel);
    }
    for (int p = 0; p < m.panel_count(); ++p) panels.emplace_back(i, p);
  }
  std::atomic<std::uint64_t> done{0};
  auto body = [&](Worker& worker) {
    Buffers own;
    worker.for_each(static_cast<int>(panels.size()), [&](int i) {
      check_cancel(cancel, kReading);
      const auto& [index, panel] = panels[static_cast<std::size_t>(i)];
      const Slot& slot = slots[index];
      pack(source, slot, panel, kernels, transposed, own, tails[index]);
      done += slot.tensor->bytes / static_cast<std::uint64_t>(slot.matrix->panel_count());
      if (progress && worker.index() == 0) {
        worker.outside(
            [&] { call_host(progress, std::min<std::uint64_t>(done.load(), total), total); });
      }
    });
  };
  team.run(body);
  check_tails(source, slots, tails);
  if (progress) call_host(progress, total, total);
  return weights;
}

}  // namespace lapidary
