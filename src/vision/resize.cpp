#include "vision/resize.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/boundary.h"
#include "base/memory.h"
#include "lapidary/error.h"
#include "vision/image_impl.h"

namespace lapidary {
namespace {

using kernels::kResampleBits;
using kernels::kResamplePixels;
using kernels::PixelTaps;

constexpr int kLanes = 16;
constexpr std::size_t kBlockWeights = 1 << 18;  // Weights that are held at a time: 1 MiB.
constexpr int kTaskRows = 8;

std::size_t to_size(int n) { return static_cast<std::size_t>(n); }

/// RGB rows, `stride` bytes apart.
struct Plane {
  const std::uint8_t* data;
  std::size_t stride;
  int width;
  int height;

  const std::uint8_t* row(int y) const { return data + to_size(y) * stride; }
};

/// The input pixels that one output is made of.
struct Window {
  int first = 0;
  int count = 0;
};

/// As Pillow rounds: a half is added and the rest cut off.
std::int32_t add_half_and_cut(double value) {
  value += 0.5;
  return static_cast<std::int32_t>(value);
}

/// The triangle filter of one axis. The order and the types of the arithmetic are Pillow's, down to
/// the size that goes through a float: another order rounds some weights differently.
class Triangle {
 public:
  Triangle(int inputs, int outputs)
      : inputs_(inputs),
        scale_(static_cast<double>(static_cast<float>(inputs)) / outputs),
        support_(std::max(scale_, 1.0)) {}

  /// No window is longer.
  std::size_t longest() const { return static_cast<std::size_t>(std::ceil(support_)) * 2 + 1; }

  /// The window of `output`; its weights go to `weights`, in units of 2^-kResampleBits.
  Window weigh(int output, std::vector<double>& exact, std::int32_t* weights) const {
    const double center = (output + 0.5) * scale_;
    const int first = std::max(add_half_and_cut(center - support_), 0);
    const int last = std::min(add_half_and_cut(center + support_), inputs_);
    const Window window{first, last - first};
    const double slope = 1.0 / support_;
    exact.resize(to_size(window.count));
    double total = 0.0;
    for (int i = 0; i < window.count; ++i) {
      const double distance = std::fabs((i + first - center + 0.5) * slope);
      const double weight = distance < 1.0 ? 1.0 - distance : 0.0;
      exact[to_size(i)] = weight;
      total += weight;
    }
    for (const double weight : exact)
      *weights++ = add_half_and_cut(weight / total * (1 << kResampleBits));
    return window;
  }

 private:
  int inputs_;
  double scale_;
  double support_;
};

/// The weights of a run of an axis' outputs: as many as fit kBlockWeights, so that they stay small
/// and in the cache however long the axis is.
class Block {
 public:
  Block(int inputs, int outputs) : triangle_(inputs, outputs), outputs_(outputs) {}

  int outputs() const { return outputs_; }
  int end() const { return end_; }  // Outputs begin … end() - 1 are filled.

  /// For kernels::resample_rows: the rows that go into an output, and their weights.
  void fill_rows(int begin) {
    start(begin, triangle_.longest());
    windows_.resize(to_size(end_ - begin_));
    for (int o = begin_; o < end_; ++o)
      windows_[to_size(o - begin_)] = triangle_.weigh(o, exact_, lanes(o));
  }
  Window window(int output) const { return windows_[to_size(output - begin_)]; }
  const std::int32_t* weights(int output) const {
    return weights_.data() + to_size(output - begin_) * stride_;
  }

  /// For kernels::resample_pixels: what goes into the outputs from `begin` on.
  void fill_pixels(int begin) {
    start(begin, groups_of(triangle_.longest()) * kLanes);
    taps_.resize(to_size(end_ - begin_));
    packed_.resize(triangle_.longest());
    for (int o = begin_; o < end_; ++o) {
      const Window window = triangle_.weigh(o, exact_, packed_.data());
      std::fill_n(lanes(o), stride_, 0);
      for (int i = 0; i < window.count; ++i) {
        std::int32_t* pixel = lanes(o) + i / kResamplePixels * kLanes + i % kResamplePixels * 3;
        std::fill_n(pixel, 3, packed_[to_size(i)]);
      }
      taps_[to_size(o - begin_)] = {window.first,
                                    static_cast<int>(groups_of(to_size(window.count))), lanes(o)};
    }
  }
  const PixelTaps* taps() const { return taps_.data(); }

 private:
  static std::size_t groups_of(std::size_t pixels) {
    return (pixels + kResamplePixels - 1) / kResamplePixels;
  }
  std::int32_t* lanes(int output) { return weights_.data() + to_size(output - begin_) * stride_; }
  void start(int begin, std::size_t stride) {
    const std::size_t fit = std::max<std::size_t>(kBlockWeights / stride, 1);
    stride_ = stride;
    begin_ = begin;
    end_ = begin + static_cast<int>(std::min(fit, to_size(outputs_ - begin)));
    weights_.resize(to_size(end_ - begin_) * stride_);
  }

  Triangle triangle_;
  int outputs_;
  int begin_ = 0;
  int end_ = 0;
  std::size_t stride_ = 0;             // Weights between outputs.
  std::vector<std::int32_t> weights_;  // [end - begin][stride]
  std::vector<Window> windows_;
  std::vector<PixelTaps> taps_;
  std::vector<std::int32_t> packed_;
  std::vector<double> exact_;
};

/// Shares out rows 0 … rows-1, some at a time.
template <class F>
void for_each_row(Worker& worker, int rows, F&& row) {
  worker.for_each((rows + kTaskRows - 1) / kTaskRows, [&](int task) {
    for (int y = task * kTaskRows; y < std::min((task + 1) * kTaskRows, rows); ++y) row(y);
  });
}

/// Every row of `from`, block.outputs() pixels wide, to `out`. All workers of a team call it.
void resize_across(Worker& worker, const kernels::Kernels& kernels, Block& block, const Plane& from,
                   std::uint8_t* out) {
  const std::size_t out_stride = to_size(block.outputs()) * 3;
  for (int begin = 0; begin < block.outputs();) {
    if (worker.index() == 0) block.fill_pixels(begin);
    worker.barrier();
    const int end = block.end();
    for_each_row(worker, from.height, [&](int y) {
      kernels.resample_pixels(from.row(y), to_size(from.width) * 3, block.taps(), end - begin,
                              out + to_size(y) * out_stride + to_size(begin) * 3);
    });
    begin = end;
  }
}

/// The columns of `from`, block.outputs() pixels high, to `out`. All workers of a team call it.
void resize_down(Worker& worker, const kernels::Kernels& kernels, Block& block, const Plane& from,
                 std::uint8_t* out) {
  const std::size_t out_stride = to_size(from.width) * 3;
  for (int begin = 0; begin < block.outputs();) {
    if (worker.index() == 0) block.fill_rows(begin);
    worker.barrier();
    const int end = block.end();
    for_each_row(worker, end - begin, [&](int i) {
      const Window window = block.window(begin + i);
      kernels.resample_rows(from.row(window.first), from.stride, block.weights(begin + i),
                            window.count, from.width * 3, out + to_size(begin + i) * out_stride);
    });
    begin = end;
  }
}

Plane plane_of(const Image& image, const ImageView& view) {
  const std::size_t stride = to_size(image.width()) * 3;
  return {image.rgb().data() + to_size(view.y) * stride + to_size(view.x) * 3, stride, view.width,
          view.height};
}

Plane plane_of(const HugeBuffer& buffer, int width, int height) {
  return {reinterpret_cast<const std::uint8_t*>(buffer.data()), to_size(width) * 3, width, height};
}

}  // namespace

void resize(const Image& image, const ImageView& view, int width, int height,
            const kernels::Kernels& kernels, Team& team, std::uint8_t* out,
            const std::atomic<bool>* cancel) {
  const Plane from = plane_of(image, view);
  const bool across = width != view.width, down = height != view.height;
  // Pillow's choice of the axis that comes first; it shows in the bytes.
  const bool down_first = view.height > height && std::int64_t{view.height} - height >
                                                      2 * (std::int64_t{view.width} - width);
  const int middle_width = down_first ? view.width : width;
  const int middle_height = down_first ? height : view.height;
  HugeBuffer buffer;
  if (across && down) buffer = HugeBuffer(to_size(middle_width) * to_size(middle_height) * 3);
  auto* middle = reinterpret_cast<std::uint8_t*>(buffer.data());
  const Plane half = plane_of(buffer, middle_width, middle_height);
  Block columns(view.width, width), rows(view.height, height);
  const auto body = [&](Worker& worker) {
    if (across && down && down_first) {
      resize_down(worker, kernels, rows, from, middle);
      resize_across(worker, kernels, columns, half, out);
    } else if (across && down) {
      resize_across(worker, kernels, columns, from, middle);
      resize_down(worker, kernels, rows, half, out);
    } else if (across) {
      resize_across(worker, kernels, columns, from, out);
    } else if (down) {
      resize_down(worker, kernels, rows, from, out);
    } else {
      for_each_row(worker, height, [&](int y) {
        std::memcpy(out + to_size(y) * to_size(width) * 3, from.row(y), to_size(width) * 3);
      });
    }
  };
  team.run(body, cancel);
}

namespace {

Image make_encoder_input(const Image& image, const ImageView& view, int size, int threads) {
  constexpr int kMaxSize = 10'000;  // Image::kMaxPixels as a square.
  if (size < 1 || size > kMaxSize) {
    throw Error(ErrorCode::kUsage, "the encoder's picture must be 1 to " +
                                       std::to_string(kMaxSize) + " pixels wide, not " +
                                       std::to_string(size));
  }
  if (view.x < 0 || view.y < 0 || view.width < 1 || view.height < 1 ||
      view.width > image.width() - view.x || view.height > image.height() - view.y) {
    throw Error(ErrorCode::kUsage,
                "a view must lie in its picture of " + std::to_string(image.width()) + "x" +
                    std::to_string(image.height()) + ", not be " + std::to_string(view.width) +
                    "x" + std::to_string(view.height) + " at " + std::to_string(view.x) + ", " +
                    std::to_string(view.y));
  }
  Team team(threads);
  PagedVector<std::uint8_t> rgb(to_size(size) * to_size(size) * 3);
  resize(image, view, size, size, *kernels::best(), team, rgb.data());
  return make_image(size, size, std::move(rgb));
}

}  // namespace

Image encoder_input(const Image& image, const ImageView& view, int size, int threads) {
  return at_boundary([&] { return make_encoder_input(image, view, size, threads); });
}

}  // namespace lapidary
