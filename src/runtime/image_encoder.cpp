#include "lapidary/image_encoder.h"

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/boundary.h"
#include "base/exclusive.h"
#include "base/format.h"
#include "base/paged.h"
#include "lapidary/error.h"
#include "runtime/budget.h"
#include "runtime/memory_plan.h"
#include "runtime/model_impl.h"
#include "runtime/vision_part.h"
#include "vision/encoder.h"
#include "vision/image_impl.h"
#include "vision/resize.h"

namespace lapidary {
namespace {

VisionPart& vision_of(const Model& model) {
  if (model.impl().vision != nullptr) return *model.impl().vision;
  throw Error(ErrorCode::kUsage,
              "the model was loaded without a vision file and cannot look at pictures");
}

}  // namespace

class ImageEncoder::Impl {
 public:
  Impl(const Model& model, const ImageEncoderOptions& options)
      : model_(model),
        vision_(vision_of(model_)),
        memory_limit_(options.memory_limit),
        held_bytes_(held_by(model.info()) + options.held_bytes),
        team_(options.threads) {}

  void load(const Progress& progress, const std::atomic<bool>* cancel) {
    vision_.weights(team_, held_bytes_, memory_limit_, progress, cancel);
  }

  std::uint64_t memory_bytes() const {
    return Encoder::memory_bytes(vision_.config(), team_.threads());
  }

  EncodedImage encode(const Image& image, const ImageOptions& options, const Progress& progress,
                      const std::atomic<bool>* cancel) {
    EncodedImage out;
    out.views = image_views(image.width(), image.height(), options);
    const std::vector<Missing> missing = look_up(image, out, cancel);
    if (missing.empty()) return out;
    load({}, cancel);
    const auto start = std::chrono::steady_clock::now();
    const VisionInfo& info = vision_.info();
    check_budget("the image encoder", memory_limit_ == 0 ? 0 : held_bytes_ + info.weight_bytes,
                 memory_bytes(), memory_limit_);
    Encoder encoder(vision_.weights(team_, 0, 0, {}), team_);
    const std::uint64_t layers = static_cast<std::uint64_t>(info.layers);
    std::uint64_t done = 0;
    for (const auto& [i, key] : missing) {
      const auto after_layer = [&] {
        if (progress) call_host(progress, ++done, layers * missing.size());
      };
      out.features[i] = encode_view(encoder, image, out.views[i], after_layer, cancel);
      vision_.cache().insert(key, out.features[i]);
    }
    out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return out;
  }

  Exclusive exclusive;

 private:
  using Missing = std::pair<std::size_t, Digest>;  // A view, and the key of its features.

  /// Fills in what the cache has; returns what it has not.
  std::vector<Missing> look_up(const Image& image, EncodedImage& out,
                               const std::atomic<bool>* cancel) {
    const Digest picture = picture_digest(image, cancel);
    std::vector<Missing> missing;
    for (std::size_t i = 0; i < out.views.size(); ++i) {
      const Digest key = vision_.key(picture, out.views[i], cancel);
      std::optional<ImageFeatures> found = vision_.cache().find(key);
      if (!found) missing.emplace_back(i, key);
      out.features.push_back(found ? std::move(*found) : ImageFeatures{});
    }
    out.cached = static_cast<int>(out.views.size() - missing.size());
    return missing;
  }

  ImageFeatures encode_view(Encoder& encoder, const Image& image, const ImageView& view,
                            FunctionRef<void()> after_layer, const std::atomic<bool>* cancel) {
    const VisionInfo& info = vision_.info();
    const auto size = static_cast<std::size_t>(info.image_size);
    std::vector<std::uint8_t> input(size * size * 3);
    auto values = std::make_shared<std::vector<float>>(static_cast<std::size_t>(info.tokens) *
                                                       static_cast<std::size_t>(info.text_width));
    int layers = 0;
    try {
      resize(image, view, info.image_size, info.image_size, vision_.kernels(), team_, input.data(),
             cancel);
      encoder.encode(
          input, *values,
          [&](int) {
            ++layers;
            after_layer();
            return true;
          },
          cancel);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kInterrupted) throw;
      throw Error(
          ErrorCode::kInterrupted,
          format("interrupted after {} of {} layers of the image encoder", layers, info.layers));
    }
    return {info.tokens, info.text_width, std::move(values)};
  }

  Model model_;
  VisionPart& vision_;
  std::uint64_t memory_limit_;
  std::uint64_t held_bytes_;
  Team team_;
};

namespace {
constexpr const char* kName = "the image encoder";
}  // namespace

ImageEncoder::ImageEncoder() noexcept = default;
ImageEncoder::ImageEncoder(const Model& model, const ImageEncoderOptions& options)
    : impl_(at_boundary([&] { return std::make_unique<Impl>(model, options); })) {}
ImageEncoder::~ImageEncoder() = default;
ImageEncoder::ImageEncoder(ImageEncoder&&) noexcept = default;
ImageEncoder& ImageEncoder::operator=(ImageEncoder&&) noexcept = default;

EncodedImage ImageEncoder::encode(const Image& image, const ImageOptions& options,
                                  const Progress& progress, const std::atomic<bool>* cancel) {
  return use(impl_.get(), kName,
             [&](Impl& impl) { return impl.encode(image, options, progress, cancel); });
}
void ImageEncoder::load(const Progress& progress, const std::atomic<bool>* cancel) {
  use(impl_.get(), kName, [&](Impl& impl) { impl.load(progress, cancel); });
}
std::uint64_t ImageEncoder::memory_bytes() const {
  return at_boundary([&] {
    if (impl_ == nullptr) throw_empty(kName);
    return impl_->memory_bytes();
  });
}

namespace {

Image make_encoder_input(const Image& image, const ImageView& view, int size, int threads) {
  constexpr int kMaxSize = 10'000;  // Image::kMaxPixels as a square.
  if (size < 1 || size > kMaxSize) {
    throw Error(
        ErrorCode::kUsage,
        format("the encoder's picture must be 1 to {} pixels wide, not {}", kMaxSize, size));
  }
  if (view.x < 0 || view.y < 0 || view.width < 1 || view.height < 1 ||
      view.width > image.width() - view.x || view.height > image.height() - view.y) {
    throw Error(ErrorCode::kUsage,
                format("a view must lie in its picture of {}x{}, not be {}x{} at {}, {}",
                       image.width(), image.height(), view.width, view.height, view.x, view.y));
  }
  Team team(threads);
  PagedVector<std::uint8_t> rgb(static_cast<std::size_t>(size) * static_cast<std::size_t>(size) *
                                3);
  resize(image, view, size, size, select_kernels({}), team, rgb.data());
  return make_image(size, size, std::move(rgb));
}

}  // namespace

Image encoder_input(const Image& image, const ImageView& view, int size, int threads) {
  return at_boundary([&] { return make_encoder_input(image, view, size, threads); });
}

}  // namespace lapidary
