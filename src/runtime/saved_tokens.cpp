#include "runtime/saved_tokens.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/format.h"
#include "lapidary/error.h"
#include "runtime/model_impl.h"
#include "runtime/prompt_images.h"
#include "runtime/vision_part.h"

namespace lapidary {

namespace {

// "ids": vocabulary_digest, fingerprint of the vision file or zeros, number of ids u32, ids u32.
// "note": its bytes.
// "pictures": number u32; of each where it begins u32, tokens u32, width u32.
// "features": float32, [tokens][width] of each.
constexpr std::size_t kIdsFront = 2 * sizeof(Digest) + sizeof(std::uint32_t);
constexpr std::size_t kPictureBytes = 3 * sizeof(std::uint32_t);

Digest vision_of(const Model& model) {
  return model.impl().vision == nullptr ? Digest{} : model.impl().vision->fingerprint();
}

void check_vocabulary(const CheckedReader& file, const Model& model, const Digest& found) {
  if (found == model.impl().vocabulary()) return;
  throw Error(ErrorCode::kFile, file.path() + ": the session's ids are of another vocabulary");
}

void read_ids(const CheckedReader& file, const Model& model, int context, Digest& vision,
              SavedTokens& out) {
  file.check("ids");  // Before its length is believed.
  const std::uint64_t bytes = file.bytes("ids");
  const std::uint64_t room = static_cast<std::uint64_t>(context) * sizeof(TokenId);
  if (bytes > kIdsFront + room) {
    throw Error(ErrorCode::kContext,
                format("{}: the session has {} tokens, but the context holds {}", file.path(),
                       (bytes - kIdsFront) / sizeof(TokenId), context));
  }
  const std::vector<std::byte> section = file.read("ids", bytes);
  FieldReader in(section, file, "the list of ids");
  check_vocabulary(file, model, in.digest());
  vision = in.digest();
  out.ids.resize(static_cast<std::size_t>(in.number_to(context)));
  const auto vocabulary = static_cast<std::uint32_t>(model.info().vocabulary);
  const auto image_token = static_cast<std::uint32_t>(model.tokenizer().image_token());
  for (TokenId& id : out.ids) {
    const auto number = in.number<std::uint32_t>();
    if (number >= vocabulary && number != image_token)
      file.damaged(format("id {} is outside the vocabulary of {} ids", number, vocabulary));
    id = static_cast<TokenId>(number);
  }
  in.finish();
}

/// Room for the features that section "pictures" announces, and where it says that they lie.
std::vector<std::pair<int, int>> read_pictures(const CheckedReader& file, const Model& model,
                                               SavedTokens& out) {
  const std::vector<std::byte> section =
      file.read("pictures", sizeof(std::uint32_t) + out.ids.size() * kPictureBytes);
  FieldReader in(section, file, "the list of pictures");
  const int count = in.number_to(static_cast<int>(out.ids.size()));
  if (count > 0 && model.vision() == nullptr) {
    throw Error(ErrorCode::kUsage,
                format("{}: the session has {} pictures, but the model was loaded without a vision "
                       "file",
                       file.path(), count));
  }
  std::vector<std::pair<int, int>> places;
  for (int i = 0; i < count; ++i) {
    const int begin = in.number_to(static_cast<int>(out.ids.size()));
    const auto tokens = in.number<std::uint32_t>(), width = in.number<std::uint32_t>();
    if (tokens != static_cast<std::uint32_t>(model.vision()->tokens) ||
        width != static_cast<std::uint32_t>(model.info().width)) {
      throw Error(ErrorCode::kFile,
                  format("{}: a picture has features of {} × {}, but the model's are {} × {}",
                         file.path(), tokens, width, model.vision()->tokens, model.info().width));
    }
    places.emplace_back(begin, static_cast<int>(tokens));
  }
  in.finish();
  return places;
}

void read_features(const CheckedReader& file, const Model& model, std::size_t count,
                   SavedTokens& out, const std::atomic<bool>* cancel) {
  const auto tokens = static_cast<std::size_t>(count == 0 ? 0 : model.vision()->tokens);
  const auto width = static_cast<std::size_t>(model.info().width);
  if (count * tokens > out.ids.size()) file.damaged("it has more pictures than ids for them");
  std::vector<Bytes> parts;
  for (std::size_t i = 0; i < count; ++i) {
    auto values = std::make_shared<std::vector<float>>(tokens * width);
    parts.push_back(std::as_writable_bytes(std::span(*values)));
    out.features.push_back({static_cast<int>(tokens), static_cast<int>(width), std::move(values)});
  }
  file.read("features", parts, cancel);
}

}  // namespace

bool SavedTokens::cuts_picture(int position) const {
  return std::ranges::any_of(images, [position](const ImageRows& image) {
    return image.begin < position && position < image.begin + image.count;
  });
}

SavedTokens SavedTokens::read(const CheckedReader& file, const Model& model, int context,
                              const std::atomic<bool>* cancel) {
  SavedTokens out;
  Digest vision{};
  read_ids(file, model, context, vision, out);
  const std::vector<std::byte> note = file.read("note", kMostNote, cancel);
  out.note.assign(reinterpret_cast<const char*>(note.data()), note.size());
  const std::vector<std::pair<int, int>> places = read_pictures(file, model, out);
  read_features(file, model, places.size(), out, cancel);
  out.same_vision = places.empty() || vision == vision_of(model);
  try {
    place_images(model, out.ids, out.features, 0, out.images);
  } catch (const Error& error) {
    file.damaged(error.what());
  }
  const auto same = [](const ImageRows& image, const std::pair<int, int>& place) {
    return image.begin == place.first && image.count == place.second;
  };
  if (!std::ranges::equal(out.images, places, same))
    file.damaged("its pictures do not lie where its ids say");
  return out;
}

void write_tokens(CheckedWriter& out, const Model& model, std::span<const TokenId> ids,
                  std::span<const ImageRows> images, std::span<const ImageFeatures> features,
                  std::string_view note, const std::atomic<bool>* cancel) {
  if (note.size() > kMostNote) {
    throw Error(ErrorCode::kUsage,
                format("the note has {} bytes, expected at most {}", note.size(), kMostNote));
  }
  FieldWriter fields;
  fields.digest(model.impl().vocabulary());
  fields.digest(images.empty() ? Digest{} : vision_of(model));
  fields.number(static_cast<std::uint32_t>(ids.size()));
  for (const TokenId id : ids) fields.number(static_cast<std::uint32_t>(id));
  out.section("ids", fields.written());
  out.section("note", std::as_bytes(std::span(note)));
  FieldWriter pictures;
  std::vector<ConstBytes> values;
  pictures.number(static_cast<std::uint32_t>(images.size()));
  for (std::size_t i = 0; i < images.size(); ++i) {
    pictures.number(static_cast<std::uint32_t>(images[i].begin));
    pictures.number(static_cast<std::uint32_t>(images[i].count));
    pictures.number(static_cast<std::uint32_t>(features[i].width));
    values.push_back(std::as_bytes(std::span(*features[i].values)));
  }
  out.section("pictures", pictures.written());
  out.section("features", values, cancel);
}

}  // namespace lapidary
