#include "formats/quantized_source.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/format.h"
#include "formats/quantize.h"
#include "lapidary/error.h"

namespace lapidary {
namespace {

constexpr std::uint64_t kMostLayers = 512;  // More are refused where they are read.

/// What a matrix becomes.
BlockType type_for(BlockType wanted, std::uint64_t columns, bool head) {
  const auto fits = [&](BlockType type) { return columns % find_block_traits(type)->values == 0; };
  BlockType type = wanted;
  const bool quantised = find_block_traits(wanted)->read != nullptr;
  if (head && quantised && wanted != BlockType::kQ8_0) type = BlockType::kQ6_K;
  if (fits(type)) return type;
  if (type == BlockType::kQ4_K) return BlockType::kQ5_0;
  if (type == BlockType::kQ5_K) return BlockType::kQ5_1;
  return BlockType::kQ8_0;
}

class QuantizedSource final : public WeightSource {
 public:
  QuantizedSource(std::unique_ptr<WeightSource> source, BlockType type)
      : base_(std::move(source)), tensors_(base_->tensors().begin(), base_->tensors().end()) {
    const bool own_head = base_->find({Part::kHead}) != nullptr;
    change({Part::kEmbedding}, type, !own_head);
    if (own_head) change({Part::kHead}, type, true);
    const std::uint64_t layers = base_->find_uint(Key::kLayers).value_or(0);
    for (int i = 0; i < static_cast<int>(std::min(layers, kMostLayers)); ++i) {
      for (const Part part : {Part::kQuery, Part::kKey, Part::kValue, Part::kOutput, Part::kGate,
                              Part::kUp, Part::kDown})
        change({part, i}, type, false);
    }
  }

  const TensorInfo* find(const TensorName& name) const override {
    const TensorInfo* const found = base_->find(name);
    return found == nullptr ? nullptr : &tensors_[index(*found, base_->tensors())];
  }
  std::span<const TensorInfo> tensors() const override { return tensors_; }
  void read(const TensorInfo& tensor, std::uint64_t offset,
            std::span<std::byte> out) const override;

  std::optional<std::uint64_t> find_uint(Key key) const override { return base_->find_uint(key); }
  std::optional<double> find_float(Key key) const override { return base_->find_float(key); }
  std::optional<std::string> find_string(Key key) const override { return base_->find_string(key); }
  std::optional<PagedVector<std::string>> find_strings(Key key) const override {
    return base_->find_strings(key);
  }
  std::optional<PagedVector<double>> find_floats(Key key) const override {
    return base_->find_floats(key);
  }
  std::optional<PagedVector<std::int64_t>> find_ints(Key key) const override {
    return base_->find_ints(key);
  }
  std::optional<ArraySize> array_size(Key key) const override { return base_->array_size(key); }
  std::string name(Key key) const override { return base_->name(key); }
  std::string where(Key key) const override { return base_->where(key); }
  std::string where(const TensorName& name) const override { return base_->where(name); }
  std::string where(const TensorInfo& tensor) const override {
    return base_->where(base_->tensors()[index(tensor, tensors_)]);
  }
  std::vector<std::string> files() const override { return base_->files(); }
  std::uint64_t file_bytes() const override { return base_->file_bytes(); }

 private:
  static std::size_t index(const TensorInfo& tensor, std::span<const TensorInfo> of) {
    return static_cast<std::size_t>(&tensor - of.data());
  }

  void change(const TensorName& name, BlockType wanted, bool head) {
    const TensorInfo* const found = base_->find(name);
    // What has another shape, or no whole blocks, is refused where it is asked for.
    if (found == nullptr || find_block_traits(found->type)->read != nullptr) return;
    TensorInfo& tensor = tensors_[index(*found, base_->tensors())];
    const BlockType type = type_for(wanted, found->columns(), head);
    const BlockTraits& traits = *find_block_traits(type);
    if (found->shape.size() != 2 || found->columns() % traits.values != 0) return;
    tensor.type = type;
    tensor.bytes = found->columns() / traits.values * traits.bytes * found->rows();
  }

  /// Row `row` of `tensor`, which is `from` in the files; `raw` and `floats` are room for it.
  void make_row(const TensorInfo& from, const TensorInfo& tensor, std::uint64_t row,
                std::span<std::byte> raw, std::span<float> floats, std::span<std::byte> out) const;

  std::unique_ptr<WeightSource> base_;
  std::vector<TensorInfo> tensors_;  // As base_->tensors(), some of another type.
};

void QuantizedSource::make_row(const TensorInfo& from, const TensorInfo& tensor, std::uint64_t row,
                               std::span<std::byte> raw, std::span<float> floats,
                               std::span<std::byte> out) const {
  base_->read(from, row * raw.size(), raw);
  // Zeros stay zeros in all their bytes: of an incomplete download that is how it is noticed.
  if (std::ranges::all_of(raw, [](std::byte b) { return b == std::byte{0}; })) {
    std::ranges::fill(out, std::byte{0});
    return;
  }
  dequantize(from.type, raw, floats);
  if (quantize(tensor.type, floats, out)) return;
  throw Error(ErrorCode::kFile,
              format("{} holds a value that is not finite, or too large for {}, in row {}",
                     where(tensor), find_block_traits(tensor.type)->name, row));
}

void QuantizedSource::read(const TensorInfo& tensor, std::uint64_t offset,
                           std::span<std::byte> out) const {
  const TensorInfo& from = base_->tensors()[index(tensor, tensors_)];
  if (from.type == tensor.type) return base_->read(from, offset, out);
  if (offset > tensor.bytes || out.size() > tensor.bytes - offset) {
    throw Error(ErrorCode::kFile, format("{} has {} bytes, {} were asked for at {}", where(tensor),
                                         tensor.bytes, out.size(), offset));
  }
  std::vector<std::byte> raw(static_cast<std::size_t>(from.bytes / from.rows()));
  std::vector<float> floats(static_cast<std::size_t>(from.columns()));
  std::vector<std::byte> made(static_cast<std::size_t>(tensor.bytes / tensor.rows()));
  while (!out.empty()) {
    const std::uint64_t row = offset / made.size();
    const auto begin = static_cast<std::size_t>(offset % made.size());
    const std::size_t count = std::min(made.size() - begin, out.size());
    const bool whole = count == made.size();
    make_row(from, tensor, row, raw, floats, whole ? out.first(count) : std::span(made));
    if (!whole) std::memcpy(out.data(), made.data() + begin, count);
    out = out.subspan(count);
    offset += count;
  }
}

}  // namespace

std::unique_ptr<WeightSource> quantize_source(std::unique_ptr<WeightSource> source,
                                              BlockType type) {
  return std::make_unique<QuantizedSource>(std::move(source), type);
}

}  // namespace lapidary
