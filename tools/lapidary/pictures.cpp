#include "pictures.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "model_folder.h"
#include "terminal.h"
#include "text.h"

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;

std::string Picture::describe(const lapidary::Tokenizer& tokenizer) const {
  const int count = static_cast<int>(views.size());
  return format("%s: %d x %d pixels, %d view%s, %d tokens", one_line(name).c_str(), image.width(),
                image.height(), count, count == 1 ? "" : "s",
                lapidary::image_prompt_tokens(tokenizer, count));
}

Picture make_picture(const std::string& name, lapidary::Image image, const ImageFlags& flags) {
  std::vector<lapidary::ImageView> views =
      lapidary::image_views(image.width(), image.height(), flags.options());
  return {name, std::move(image), std::move(views)};
}

Picture read_picture(const std::string& path, const ImageFlags& flags, std::uint64_t memory_limit) {
  return make_picture(path, lapidary::Image::load(path, flags.loading(memory_limit)), flags);
}

std::vector<Picture> read_pictures(const ImageFlags& flags, std::uint64_t memory_limit) {
  std::vector<Picture> pictures;
  std::uint64_t held = 0;
  for (const std::string& path : flags.images) {
    pictures.push_back(read_picture(path, flags, memory_left(memory_limit, held)));
    held += pictures.back().image.rgb().size();
  }
  return pictures;
}

std::uint64_t memory_left(std::uint64_t limit, std::uint64_t taken) {
  return limit == 0 ? 0 : std::max<std::uint64_t>(limit - std::min(taken, limit), 1);
}

std::uint64_t memory_left(const ModelFlags& flags, const lapidary::Model& model,
                          std::uint64_t beside) {
  if (flags.memory_limit == 0) return 0;
  lapidary::ModelOptions half{.weights = flags.weights};
  if (model.vision() != nullptr) half.vision = model.vision()->path;
  const lapidary::MemoryPlan plan = plan_memory(find_model(flags.model), half, flags.session());
  return memory_left(flags.memory_limit, plan.total() + beside);
}

std::uint64_t decoded_bytes(std::span<const Picture> pictures) {
  std::uint64_t bytes = 0;
  for (const Picture& picture : pictures) bytes += picture.image.rgb().size();
  return bytes;
}

void check_text(const lapidary::Tokenizer& tokenizer, int context, std::size_t bytes) {
  const std::size_t least = bytes / tokenizer.longest_piece();
  if (least <= static_cast<std::size_t>(context)) return;
  throw Error(
      ErrorCode::kContext,
      format("the prompt has at least %zu tokens, but the context holds %d", least, context));
}

void check_text(const lapidary::Session& session, std::size_t bytes) {
  check_text(session.model().tokenizer(), session.context(), bytes);
}

lapidary::EncodedImage unencoded(const Picture& picture, const lapidary::Model& model) {
  const lapidary::ImageFeatures nothing{model.vision()->tokens, model.info().width, nullptr};
  lapidary::EncodedImage image;
  image.views = picture.views;
  image.features.assign(picture.views.size(), nothing);
  return image;
}

void check_room(int context, std::size_t tokens, std::size_t to_draw) {
  const auto room = static_cast<std::size_t>(context);
  if (tokens + to_draw <= room) return;
  std::string text = format("the prompt has %zu tokens, but the context holds %d", tokens, context);
  if (tokens == room) text += ", so that none could be drawn";
  throw Error(ErrorCode::kContext, text);
}

void check_room(const lapidary::Session& session, std::size_t tokens, std::size_t to_draw) {
  check_room(session.context(), tokens, to_draw);
}

PictureEncoder::PictureEncoder(const lapidary::Model& model, const ModelFlags& flags,
                               const ImageFlags& images, std::uint64_t held_bytes)
    : model_(model),
      shown_(images.options()),
      quiet_(flags.quiet),
      on_disk_(!images.cache_folder.empty()) {
  options_.threads = flags.threads;
  options_.memory_limit = flags.memory_limit;
  options_.held_bytes = held_bytes;
}

void PictureEncoder::require_vision() const {
  if (model_.vision() == nullptr) throw Error(ErrorCode::kUsage, kNoVisionFile);
}

lapidary::EncodedImage PictureEncoder::encode(const Picture& picture, const std::string& label) {
  require_vision();
  if (!encoder_) encoder_.emplace(model_, options_);
  const double start = now();
  // With a folder of features everything may be there already, and the weights not needed.
  if (!on_disk_) {
    ProgressBar bar("loading vision", quiet_);
    encoder_->load(bar.callback(), &interrupted);
  }
  ProgressBar bar(label, quiet_);
  lapidary::EncodedImage encoded =
      encoder_->encode(picture.image, shown_, bar.callback(), &interrupted);
  bar.finish();
  load_seconds_ += std::max(0.0, now() - start - encoded.seconds);
  seconds_ += encoded.seconds;
  views_ += static_cast<int>(encoded.views.size());
  cached_ += encoded.cached;
  return encoded;
}

void PictureEncoder::fill(lapidary::Prompt& prompt, std::span<const Picture> pictures) {
  prompt.images.clear();
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    const std::string label = pictures.size() == 1
                                  ? std::string("encoding")
                                  : format("encoding picture %zu of %zu", i + 1, pictures.size());
    lapidary::EncodedImage encoded = encode(pictures[i], label);
    std::move(encoded.features.begin(), encoded.features.end(), std::back_inserter(prompt.images));
  }
}

}  // namespace cli
