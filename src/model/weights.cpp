#include "model/weights.h"

#include <algorithm>
#include <atomic>
#include <string>

#include "base/boundary.h"
#include "base/cancel.h"
#include "base/paged.h"
#include "formats/zero_tail.h"
#include "lapidary/error.h"

namespace lapidary {
namespace {

constexpr std::size_t kReadBytes =
    512 * 1024;  // Rows that one task reads and packs: they stay in its core's cache.

/// A matrix or norm of the model: where it goes, and what the file calls it. What is nullptr is not
/// wanted of it.
struct Slot {
  const TensorInfo* tensor;
  PackedMatrix* matrix;
  const float** norm;
  PlanesMatrix* planes = nullptr;  // The matrix, or a copy of it.
  TensorKind kind = TensorKind::kOther;
};

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text;
  for (std::uint64_t n : shape) text += (text.empty() ? "" : "x") + std::to_string(n);
  return text;
}

/// The tensor `name`, checked to be `columns` (× `rows`, unless 1).
const TensorInfo& require(const WeightSource& source, const std::string& name, int columns,
                          int rows) {
  const TensorInfo* tensor = source.find(name);
  if (tensor == nullptr)
    throw Error(ErrorCode::kFile, source.path() + ": tensor " + name + " is missing");
  const std::size_t dimensions = rows == 1 ? 1 : 2;
  if (tensor->columns() != static_cast<std::uint64_t>(columns) ||
      tensor->rows() != static_cast<std::uint64_t>(rows) || tensor->shape.size() < dimensions) {
    throw Error(ErrorCode::kFile, source.path() + ": tensor " + name + " is " +
                                      shape_text(tensor->shape) + ", expected " +
                                      std::to_string(columns) +
                                      (rows == 1 ? "" : "x" + std::to_string(rows)));
  }
  if (rows == 1 && find_block_traits(tensor->type)->read != nullptr)
    throw Error(ErrorCode::kFile,
                source.path() + ": tensor " + name + " is quantised, expected F32");
  return *tensor;
}

/// Every tensor of the model with the place it goes to, shapes checked.
std::vector<Slot> plan(const WeightSource& source, const Config& c, Weights& w) {
  std::vector<Slot> slots;
  const auto matrix = [&](const std::string& name, int columns, int rows, PackedMatrix& out) {
    const TensorInfo& tensor = require(source, name, columns, rows);
    out = {kernels::packing_for(tensor.type, false), rows, columns, nullptr};
    slots.push_back({&tensor, &out, nullptr, nullptr, TensorKind::kLayerMatrix});
  };
  const auto head = [&](const std::string& name) {
    const TensorInfo& tensor = require(source, name, c.width, c.vocabulary);
    shape_head(w.head, tensor.type, c.vocabulary, c.width, c.screened_head);
    slots.push_back({&tensor, w.head.in_planes() ? nullptr : &w.head.panels, nullptr,
                     w.head.searchable() ? &w.head.planes : nullptr});
  };
  const auto norm = [&](const std::string& name, int columns, const float*& out) {
    slots.push_back({&require(source, name, columns, 1), nullptr, &out});
  };
  if (source.find("output.weight") == nullptr) {
    head("token_embd.weight");
  } else {
    const TensorInfo& tensor = require(source, "token_embd.weight", c.width, c.vocabulary);
    w.head.embedding = {kernels::packing_for(tensor.type, true), c.vocabulary, c.width, nullptr};
    slots.push_back({&tensor, &w.head.embedding, nullptr});
    head("output.weight");
  }
  norm("output_norm.weight", c.width, w.output_norm);
  w.layers.resize(static_cast<std::size_t>(c.layers));
  for (std::size_t i = 0; i < w.layers.size(); ++i) {
    LayerWeights& layer = w.layers[i];
    const std::string prefix = "blk." + std::to_string(i) + ".";
    norm(prefix + "attn_norm.weight", c.width, layer.attention_norm);
    matrix(prefix + "attn_q.weight", c.width, c.query_width(), layer.query);
    matrix(prefix + "attn_k.weight", c.width, c.kv_width(), layer.key);
    matrix(prefix + "attn_v.weight", c.width, c.kv_width(), layer.value);
    norm(prefix + "attn_q_norm.weight", c.head_dim, layer.query_norm);
    norm(prefix + "attn_k_norm.weight", c.head_dim, layer.key_norm);
    matrix(prefix + "attn_output.weight", c.query_width(), c.width, layer.output);
    norm(prefix + "post_attention_norm.weight", c.width, layer.post_attention_norm);
    norm(prefix + "ffn_norm.weight", c.width, layer.ffn_norm);
    matrix(prefix + "ffn_gate.weight", c.width, c.feed_forward, layer.gate);
    matrix(prefix + "ffn_up.weight", c.width, c.feed_forward, layer.up);
    matrix(prefix + "ffn_down.weight", c.feed_forward, c.width, layer.down);
    norm(prefix + "post_ffw_norm.weight", c.width, layer.post_ffn_norm);
  }
  return slots;
}

/// Without a copy.
std::size_t matrix_bytes(const Slot& slot) {
  if (slot.norm != nullptr) return Arena::planned(slot.tensor->columns() * sizeof(float));
  return Arena::planned(slot.matrix != nullptr ? slot.matrix->bytes() : slot.planes->bytes());
}

std::size_t slot_bytes(const Slot& slot) {
  const bool copied = slot.matrix != nullptr && slot.planes != nullptr;
  return matrix_bytes(slot) + (copied ? Arena::planned(slot.planes->bytes()) : 0);
}

void load_norm(const WeightSource& source, const Slot& slot, Arena& arena) {
  PagedVector<std::byte> bytes(slot.tensor->bytes);
  source.read(*slot.tensor, 0, bytes);
  ZeroTail tail;
  tail.look(0, bytes);
  check_tail(source, *slot.tensor, slot.kind, tail);
  const auto values = arena.allocate_array<float>(slot.tensor->columns());
  dequantize(slot.tensor->type, bytes, values);
  for (float v : values) {
    if (!(v > -3e38F && v < 3e38F))
      throw Error(ErrorCode::kFile, source.path() + ": tensor " + slot.tensor->name +
                                        " holds a value that is not finite");
  }
  *slot.norm = values.data();
}

/// Some panels of one matrix: what one thread reads and packs at a time.
struct Piece {
  const Slot* slot;
  ZeroTail* tail;  // Of the whole matrix.
  int panel_begin, panel_end;
};

std::vector<Piece> cut(const std::vector<Slot>& slots, std::vector<ZeroTail>& tails) {
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const Slot& slot = slots[i];
    if (slot.norm != nullptr) continue;
    const int panels =
        slot.matrix != nullptr ? slot.matrix->panel_count() : slot.planes->panel_count();
    const std::size_t panel = slot.tensor->bytes / slot.tensor->rows() * kernels::kPanelRows;
    const int step = static_cast<int>(std::max<std::size_t>(1, kReadBytes / panel));
    for (int p = 0; p < panels; p += step)
      pieces.push_back({&slot, &tails[i], p, std::min(p + step, panels)});
  }
  return pieces;
}

/// Packs `count` rows into panel `panel` of all that is wanted of a matrix.
bool pack_panel(const Slot& slot, int panel, const std::byte* rows, std::size_t row_bytes,
                int count) {
  const BlockType type = slot.tensor->type;
  bool finite = true;
  if (const PackedMatrix* m = slot.matrix; m != nullptr) {
    std::byte* out = m->panels + static_cast<std::size_t>(panel) * m->panel_bytes();
    finite &= kernels::pack_panel(m->packing, type, rows, row_bytes, count, m->columns, out);
  }
  if (const PlanesMatrix* m = slot.planes; m != nullptr) {
    finite &= kernels::pack_split_panel(type, rows, row_bytes, count, m->columns, m->planes(panel));
  }
  return finite;
}

std::uint64_t pack_piece(const WeightSource& source, const Piece& piece,
                         PagedVector<std::byte>& buffer) {
  const TensorInfo& tensor = *piece.slot->tensor;
  const std::size_t row_bytes = tensor.bytes / tensor.rows();
  const int first = piece.panel_begin * kernels::kPanelRows;
  const int last = std::min(piece.panel_end * kernels::kPanelRows, static_cast<int>(tensor.rows()));
  buffer.resize(static_cast<std::size_t>(last - first) * row_bytes);
  const std::uint64_t offset = static_cast<std::uint64_t>(first) * row_bytes;
  source.read(tensor, offset, buffer);
  piece.tail->look(offset, buffer);
  for (int p = piece.panel_begin; p < piece.panel_end; ++p) {
    const int row = p * kernels::kPanelRows;
    const std::byte* rows = buffer.data() + static_cast<std::size_t>(row - first) * row_bytes;
    const int count = std::min(kernels::kPanelRows, last - row);
    if (!pack_panel(*piece.slot, p, rows, row_bytes, count)) {
      throw Error(ErrorCode::kFile, source.path() + ": tensor " + tensor.name +
                                        " holds a scale or value that is not finite, in rows " +
                                        std::to_string(row) + " to " +
                                        std::to_string(row + kernels::kPanelRows - 1));
    }
  }
  return buffer.size();
}

}  // namespace

void WeightsDeleter::operator()(const Weights* weights) const { delete weights; }

std::uint64_t packed_weight_bytes(const WeightSource& source, const Config& config) {
  Weights shapes;
  std::uint64_t total = 0;
  for (const Slot& slot : plan(source, config, shapes)) total += slot_bytes(slot);
  return total;
}

std::string unused_tensors(const WeightSource& source, const Config& config) {
  Weights shapes;
  std::vector<const TensorInfo*> used;
  for (const Slot& slot : plan(source, config, shapes)) used.push_back(slot.tensor);
  return describe_unused(source, used, "blk.");
}

std::uint64_t weight_bytes_per_token(const WeightSource& source, const Config& config) {
  Weights shapes;
  std::uint64_t total = 0;
  for (const Slot& slot : plan(source, config, shapes)) {
    if (slot.matrix == &shapes.head.embedding) continue;
    total += matrix_bytes(slot);
  }
  return total;
}

std::uint64_t multiplications_per_token(const Config& c) {
  const auto width = static_cast<std::uint64_t>(c.width);
  const auto attention = static_cast<std::uint64_t>(2 * c.query_width() + 2 * c.kv_width());
  return static_cast<std::uint64_t>(c.layers) * width *
         (attention + 3 * static_cast<std::uint64_t>(c.feed_forward));
}

WeightsPtr load_weights(const WeightSource& source, const Config& config,
                        const kernels::Kernels& kernels, Team& team, const Progress& progress,
                        const std::atomic<bool>* cancel) {
  std::unique_ptr<Weights, WeightsDeleter> weights(new Weights);
  weights->config = config;
  weights->kernels = &kernels;
  const std::vector<Slot> slots = plan(source, config, *weights);
  std::size_t bytes = 0;
  std::uint64_t file_bytes = 0;
  for (const Slot& slot : slots) {
    bytes += slot_bytes(slot);
    file_bytes += slot.tensor->bytes;
  }
  weights->arena = Arena(bytes);
  for (const Slot& slot : slots) {
    check_cancel(cancel, "reading the model");
    if (slot.norm != nullptr) load_norm(source, slot, weights->arena);
    if (slot.matrix != nullptr) slot.matrix->panels = weights->arena.allocate(slot.matrix->bytes());
    if (slot.planes != nullptr) slot.planes->data = weights->arena.allocate(slot.planes->bytes());
  }
  std::vector<ZeroTail> tails(slots.size());
  const std::vector<Piece> pieces = cut(slots, tails);
  std::atomic<std::uint64_t> done{0};
  auto body = [&](Worker& worker) {
    PagedVector<std::byte> buffer;
    worker.for_each(static_cast<int>(pieces.size()), [&](int i) {
      check_cancel(cancel, "reading the model");
      done += pack_piece(source, pieces[static_cast<std::size_t>(i)], buffer);
      if (progress && worker.index() == 0)
        worker.outside([&] { call_host(progress, done.load(), file_bytes); });
    });
  };
  team.run(body);
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].norm == nullptr) check_tail(source, *slots[i].tensor, slots[i].kind, tails[i]);
  }
  if (progress) call_host(progress, file_bytes, file_bytes);
  return weights;
}

}  // namespace lapidary
