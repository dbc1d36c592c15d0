#include "ops/tensor_plan.h"

#include <algorithm>
#include <map>
#include <unordered_set>
#include <utility>

#include "base/boundary.h"
#include "base/cancel.h"
#include "base/format.h"
#include "base/layout.h"
#include "base/paged.h"
#include "base/printable.h"
#include "lapidary/error.h"

namespace lapidary {

namespace {

using kernels::kPanelRows;

constexpr std::size_t kReadBytes =
    512 * 1024;  // Rows that one task reads and packs: they stay in its core's cache.

/// Some rows of a tensor as the file has them.
struct FileRows {
  int first;
  int count;
  std::span<const std::byte> bytes;
};

/// What a thread needs to pack them. Blocks only grow: what is read into need not be cleared first.
struct Buffers {
  const kernels::Kernels& kernels;
  PagedVector<std::byte> bytes{};
  PagedVector<float> floats{};
  std::vector<std::int16_t> words{};
};

template <class T>
std::span<T> sized(PagedVector<T>& block, std::size_t count) {
  if (block.size() < count) block.resize(count);
  return {block.data(), count};
}

/// `bytes` in fp32. False where one is not finite.
bool to_floats(BlockType type, std::span<const std::byte> bytes, std::span<float> out) {
  dequantize(type, bytes, out);
  return std::ranges::all_of(out, [](float v) { return v > -3e38F && v < 3e38F; });
}

}  // namespace

/// A tensor and what it becomes.
class TensorPlan::Item {
 public:
  Item(const TensorInfo& from, TensorKind what, int count, int together)
      : tensor(from), kind(what), row_count(count), unit(together) {}
  virtual ~Item() = default;
  Item(const Item&) = delete;
  Item& operator=(const Item&) = delete;

  virtual void place(Layout& layout) = 0;

  /// Packs up to `unit` rows. False where a value is not finite.
  virtual bool pack(const FileRows& rows, Buffers& buffers) const = 0;

  std::size_t row_bytes() const { return tensor.bytes / static_cast<std::size_t>(row_count); }
  /// Rows that are read at once.
  int step() const {
    return unit * static_cast<int>(std::max<std::size_t>(
                      1, kReadBytes / (row_bytes() * static_cast<std::size_t>(unit))));
  }

  const TensorInfo& tensor;
  const TensorKind kind;
  const int row_count;  // Of what is packed; the tensor may have several dimensions for a row.
  const int unit;       // Rows that are packed together.
};

namespace {

class Values final : public TensorPlan::Item {
 public:
  Values(const TensorInfo& from, TensorKind what, const float*& out)
      : Item(from, what, static_cast<int>(from.rows()), 1), out_(out) {}

  void place(Layout& layout) override {
    values_ = layout.take<float>(tensor.columns() * tensor.rows());
    out_ = values_;
  }
  bool pack(const FileRows& rows, Buffers&) const override {
    const std::size_t columns = tensor.columns();
    return to_floats(tensor.type, rows.bytes,
                     {values_ + static_cast<std::size_t>(rows.first) * columns, columns});
  }

 private:
  const float*& out_;
  float* values_ = nullptr;
};

/// One panel.
bool pack_rows(BlockType type, std::size_t row_bytes, const FileRows& rows,
               const PackedMatrix& out) {
  const auto panel = static_cast<std::size_t>(rows.first / kPanelRows);
  return kernels::pack_panel(out.packing, type, rows.bytes.data(), row_bytes, rows.count,
                             out.columns, out.panels + panel * out.panel_bytes());
}

class Packed final : public TensorPlan::Item {
 public:
  Packed(const TensorInfo& from, TensorKind what, PackedMatrix& out)
      : Item(from, what, out.rows, kPanelRows), out_(out) {}

  void place(Layout& layout) override { out_.panels = layout.take<std::byte>(out_.bytes()); }
  bool pack(const FileRows& rows, Buffers&) const override {
    return pack_rows(tensor.type, row_bytes(), rows, out_);
  }

 private:
  PackedMatrix& out_;
};

/// An output matrix in panels, in planes, or in both.
class PackedHead final : public TensorPlan::Item {
 public:
  PackedHead(const TensorInfo& from, HeadWeights& out)
      : Item(from, TensorKind::kOther, out.rows(), kPanelRows), out_(out) {}

  void place(Layout& layout) override {
    out_.panels.panels = layout.take<std::byte>(out_.panels.bytes());
    out_.planes.data = layout.take<std::byte>(out_.planes.bytes());
  }
  bool pack(const FileRows& rows, Buffers&) const override {
    if (!out_.in_planes() && !pack_rows(tensor.type, row_bytes(), rows, out_.panels)) return false;
    if (!out_.searchable()) return true;
    return kernels::pack_split_panel(tensor.type, rows.bytes.data(), row_bytes(), rows.count,
                                     out_.planes.columns,
                                     out_.planes.planes(rows.first / kPanelRows));
  }

 private:
  HeadWeights& out_;
};

class Bfp : public TensorPlan::Item {
 public:
  Bfp(const TensorInfo& from, BfpMatrix& out, int count, int together)
      : Item(from, TensorKind::kLayerMatrix, count, together), out_(out) {}

  void place(Layout& layout) override {
    out_.values = layout.take<std::int16_t>(out_.value_count());
    out_.scales = layout.take<float>(out_.scale_count());
  }
  bool pack(const FileRows& rows, Buffers& buffers) const override {
    const std::span<float> floats =
        sized(buffers.floats, columns() * static_cast<std::size_t>(rows.count));
    if (!to_floats(tensor.type, rows.bytes, floats)) return false;
    pack_rows(floats.data(), rows.first, rows.count, buffers);
    return true;
  }

 protected:
  std::size_t columns() const { return static_cast<std::size_t>(out_.columns); }

  void pack_rows(const float* rows, int first, int count, Buffers& buffers) const {
    buffers.words.resize(columns());
    const auto panel = static_cast<std::size_t>(first / kPanelRows);
    pack_bfp_panel(buffers.kernels, rows, columns(), count, out_.columns, out_.block,
                   out_.values + panel * out_.panel_values(),
                   out_.scales + panel * out_.panel_scales(), buffers.words.data());
  }

  BfpMatrix& out_;
};

/// A row of the tensor is a column of the matrix: one task reads all and packs the panels.
class TransposedBfp final : public Bfp {
 public:
  TransposedBfp(const TensorInfo& from, BfpMatrix& out)
      : Bfp(from, out, out.columns, out.columns) {}

  bool pack(const FileRows& rows, Buffers& buffers) const override {
    const auto height = static_cast<std::size_t>(out_.rows);
    const std::span<float> floats = sized(buffers.floats, columns() * (height + kPanelRows));
    if (!to_floats(tensor.type, rows.bytes, floats.first(columns() * height))) return false;
    float* const panel = floats.data() + columns() * height;
    for (int first = 0; first < out_.rows; first += kPanelRows) {
      const int count = std::min(kPanelRows, out_.rows - first);
      float* to = panel;
      for (int r = first; r < first + count; ++r) {
        for (std::size_t k = 0; k < columns(); ++k)
          *to++ = floats[k * height + static_cast<std::size_t>(r)];
      }
      pack_rows(panel, first, count, buffers);
    }
    return true;
  }
};

/// Rows of one tensor: a task.
struct Piece {
  const TensorPlan::Item* item;
  ZeroTail* tail;  // Of the whole tensor.
  int begin, end;
};

/// Packs all rows of `piece` and returns their bytes.
std::uint64_t load_piece(const WeightSource& source, const Piece& piece, Buffers& buffers) {
  const TensorPlan::Item& item = *piece.item;
  const std::size_t row_bytes = item.row_bytes();
  const std::span<std::byte> bytes =
      sized(buffers.bytes, static_cast<std::size_t>(piece.end - piece.begin) * row_bytes);
  const std::uint64_t offset = static_cast<std::uint64_t>(piece.begin) * row_bytes;
  source.read(item.tensor, offset, bytes);
  piece.tail->look(offset, bytes);
  std::span<const std::byte> left = bytes;
  for (int first = piece.begin; first < piece.end; first += item.unit) {
    const int count = std::min(item.unit, piece.end - first);
    const std::span<const std::byte> rows = left.first(static_cast<std::size_t>(count) * row_bytes);
    if (!item.pack({first, count, rows}, buffers)) {
      throw Error(ErrorCode::kFile,
                  format("{} holds a scale or value that is not finite, in rows {} to {}",
                         source.where(item.tensor), first, first + count - 1));
    }
    left = left.subspan(rows.size());
  }
  return bytes.size();
}

std::string shape_text(std::span<const std::uint64_t> shape) {
  std::string text;
  for (const std::uint64_t n : shape) text += format("{}{}", text.empty() ? "" : "x", n);
  return text;
}

}  // namespace

TensorPlan::TensorPlan(const WeightSource& source, const char* reading)
    : source_(source), reading_(reading) {}
TensorPlan::~TensorPlan() = default;
TensorPlan::TensorPlan(TensorPlan&&) noexcept = default;

const TensorInfo& TensorPlan::require(const TensorName& name, Shape shape) const {
  const TensorInfo* tensor = source_.find(name);
  if (tensor == nullptr) throw Error(ErrorCode::kFile, source_.where(name) + " is missing");
  const std::vector<std::uint64_t> expected(shape.begin(), shape.end());
  std::vector<std::uint64_t> found = tensor->shape;
  while (found.size() > expected.size() && found.back() == 1) found.pop_back();
  if (found != expected) {
    throw Error(ErrorCode::kFile, source_.where(*tensor) + " is " + shape_text(tensor->shape) +
                                      ", expected " + shape_text(expected));
  }
  return *tensor;
}

void TensorPlan::values(const TensorName& name, Shape shape, const float*& out) {
  const TensorInfo& tensor = require(name, shape);
  if (shape.size() == 1 && find_block_traits(tensor.type)->read != nullptr)
    throw Error(ErrorCode::kFile, source_.where(tensor) + " is quantised, expected F32");
  const TensorKind kind = name.bias ? TensorKind::kBias : TensorKind::kOther;
  items_.push_back(std::make_unique<Values>(tensor, kind, out));
}

void TensorPlan::matrix(const TensorName& name, int columns, int rows, PackedMatrix& out,
                        bool embedding) {
  const TensorInfo& tensor = require(name, {columns, rows});
  out = {kernels::packing_for(tensor.type, embedding), rows, columns, nullptr};
  const TensorKind kind = embedding ? TensorKind::kOther : TensorKind::kLayerMatrix;
  items_.push_back(std::make_unique<Packed>(tensor, kind, out));
}

void TensorPlan::head(const TensorName& name, int columns, int rows, HeadWeights& out,
                      bool searchable) {
  const TensorInfo& tensor = require(name, {columns, rows});
  shape_head(out, tensor.type, rows, columns, searchable);
  items_.push_back(std::make_unique<PackedHead>(tensor, out));
}

void TensorPlan::matrix(const TensorName& name, Shape shape, BfpMatrix& out, bool transposed) {
  const TensorInfo& tensor = require(name, shape);
  if (transposed) {
    items_.push_back(std::make_unique<TransposedBfp>(tensor, out));
  } else {
    items_.push_back(std::make_unique<Bfp>(tensor, out, out.rows, kPanelRows));
  }
}

std::size_t TensorPlan::bytes() const {
  Layout layout(nullptr);
  for (const auto& item : items_) item->place(layout);
  return layout.bytes();
}

Arena TensorPlan::load(const kernels::Kernels& kernels, Team& team, const Progress& progress,
                       const std::atomic<bool>* cancel) const {
  Arena arena(bytes());
  Layout layout(&arena);
  std::vector<ZeroTail> tails(items_.size());
  std::vector<Piece> pieces;
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    Item& item = *items_[i];
    item.place(layout);
    total += item.tensor.bytes;
    for (int row = 0; row < item.row_count; row += item.step())
      pieces.push_back({&item, &tails[i], row, std::min(row + item.step(), item.row_count)});
  }
  std::atomic<std::uint64_t> done{0};
  auto body = [&](Worker& worker) {
    Buffers buffers{kernels};
    worker.for_each(static_cast<int>(pieces.size()), [&](int i) {
      check_cancel(cancel, reading_);
      done += load_piece(source_, pieces[static_cast<std::size_t>(i)], buffers);
      if (progress && worker.index() == 0)
        worker.outside([&] { call_host(progress, done.load(), total); });
    });
  };
  team.run(body);
  for (std::size_t i = 0; i < items_.size(); ++i)
    check_tail(source_, items_[i]->tensor, items_[i]->kind, tails[i]);
  if (progress) call_host(progress, total, total);
  return arena;
}

std::string TensorPlan::unused() const {
  std::unordered_set<const TensorInfo*> used;
  for (const auto& item : items_) used.insert(&item->tensor);
  std::map<std::string_view, std::vector<const TensorInfo*>> families;  // By name up to the dot.
  std::size_t count = 0;
  for (const TensorInfo& tensor : source_.tensors()) {
    if (used.contains(&tensor)) continue;
    if (tensor.of_layer) {
      throw Error(ErrorCode::kFile, source_.where(tensor) +
                                        " belongs to a layer, but no Gemma 3 layer has it; the "
                                        "model would be another without it");
    }
    const std::string_view name = tensor.name;
    families[name.substr(0, name.find('.'))].push_back(&tensor);
    ++count;
  }
  if (count == 0) return {};
  if (count == 1)
    return "tensor " + printable_value(families.begin()->second.front()->name) + " is not used";
  constexpr std::size_t kShown = 4;
  std::string text = format("{} tensors are not used:", count);
  std::size_t shown = 0;
  for (const auto& [family, members] : families) {
    if (shown++ == kShown) return text + ", …";
    text += (shown == 1 ? " " : ", ") + printable_value(members.front()->name);
    if (members.size() > 1) text += format(" and {} like it", members.size() - 1);
  }
  return text;
}

}  // namespace lapidary
