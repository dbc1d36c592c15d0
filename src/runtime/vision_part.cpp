#include "runtime/vision_part.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "base/cancel.h"
#include "base/format.h"
#include "lapidary/error.h"
#include "runtime/budget.h"
#include "runtime/digest.h"
#include "runtime/kv_identity.h"
#include "runtime/model_impl.h"

namespace lapidary {
namespace {

// Raised when the features of a picture change by a bit: older ones in a cache no longer count.
constexpr int kFeatureVersion = 1;

constexpr std::size_t kHashBytes = std::size_t{1} << 20;  // Between two looks at a cancel.

/// Waits for the mutex no longer than until `cancel` is set. Looks now and then: of a timed mutex,
/// ThreadSanitizer does not see that it is locked.
std::unique_lock<std::mutex> lock_unless(std::mutex& mutex, const std::atomic<bool>* cancel) {
  constexpr std::chrono::milliseconds kLook(2);
  std::unique_lock lock(mutex, std::defer_lock);
  if (cancel == nullptr) lock.lock();
  while (!lock.owns_lock() && !lock.try_lock()) {
    check_cancel(cancel, "reading the vision model");
    std::this_thread::sleep_for(kLook);
  }
  return lock;
}

VisionConfig fitting_config(const WeightSource& source, const std::string& model_path,
                            int model_width) {
  VisionConfig config = read_vision_config(source);
  if (config.text_width == model_width) return config;
  throw Error(ErrorCode::kFile,
              format("{} is {}, but the model {} has width {}", source.where(Key::kTextWidth),
                     config.text_width, model_path, model_width));
}

}  // namespace

VisionPart::VisionPart(const std::string& path, const std::string& model_path, int model_width,
                       const kernels::Kernels& kernels, const ModelOptions& options)
    : source_(open_source(path, Content::kVision)),
      config_(fitting_config(*source_, model_path, model_width)),
      info_(describe_vision(path, *source_, config_)),
      kernels_(kernels),
      cache_(options.image_cache_bytes, options.image_cache_folder) {}

const VisionWeights& VisionPart::weights(Team& team, std::uint64_t held, std::uint64_t memory_limit,
                                         const Progress& progress,
                                         const std::atomic<bool>* cancel) {
  const auto lock = lock_unless(mutex_, cancel);
  if (weights_ == nullptr) {
    check_budget(info_.path + ": the vision model", memory_limit == 0 ? 0 : held,
                 info_.weight_bytes, memory_limit);
    weights_ = load_vision_weights(*source_, config_, kernels_, team, progress, cancel);
  }
  return *weights_;
}

const std::vector<Digest>& VisionPart::file_digests(const std::atomic<bool>* cancel) {
  const auto lock = lock_unless(mutex_, cancel);
  if (file_digests_.empty()) {
    std::vector<Digest> digests;
    for (const std::string& path : source_->files()) digests.push_back(hash_file(path, cancel));
    file_digests_ = std::move(digests);
  }
  return file_digests_;
}

Digest VisionPart::fingerprint() {
  const auto lock = lock_unless(mutex_, nullptr);
  if (!fingerprint_) fingerprint_ = lapidary::fingerprint(*source_);
  return *fingerprint_;
}

Digest VisionPart::key(const Digest& picture, const ImageView& view,
                       const std::atomic<bool>* cancel) {
  Hasher hasher;
  hasher.text("lapidary features").number(kFeatureVersion).text(kernels_.name).digest(picture);
  for (const int n : {view.x, view.y, view.width, view.height, config_.image_size})
    hasher.number(n);
  // In memory the files are the same for all.
  if (!cache_.folder().empty()) {
    for (const Digest& digest : file_digests(cancel)) hasher.digest(digest);
  }
  return hasher.finish();
}

Digest picture_digest(const Image& image, const std::atomic<bool>* cancel) {
  Hasher hasher;
  hasher.number(image.width()).number(image.height());
  std::span<const std::byte> pixels = std::as_bytes(image.rgb());
  while (!pixels.empty()) {
    check_cancel(cancel, "looking for a picture's features");
    const std::span<const std::byte> part = pixels.first(std::min(kHashBytes, pixels.size()));
    hasher.bytes(part);
    pixels = pixels.subspan(part.size());
  }
  return hasher.finish();
}

}  // namespace lapidary
