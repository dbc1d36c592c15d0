#include "chat_pictures.h"

#include <filesystem>
#include <iterator>
#include <system_error>
#include <utility>

namespace cli {

WaitingPictures::WaitingPictures(const lapidary::Model& model, const ModelFlags& flags,
                                 const ImageFlags& images, std::uint64_t held_bytes,
                                 std::uint64_t beside)
    : model_(model),
      flags_(images),
      memory_(memory_left(flags, model, beside)),
      encoder_(model, flags, images, held_bytes) {}

std::string WaitingPictures::add(Picture picture) {
  encoder_.require_vision();
  std::string description = picture.describe(model_.tokenizer());
  UserPicture shown{description, unencoded(picture, model_)};
  waiting_.push_back({std::move(shown), std::move(picture)});
  return description;
}

std::vector<std::string> WaitingPictures::add(const std::vector<std::string>& paths) {
  encoder_.require_vision();
  std::vector<Picture> pictures;
  pictures.reserve(paths.size());
  std::uint64_t held = 0;
  for (const Waiting& waiting : waiting_) {
    if (waiting.source) held += waiting.source->image.rgb().size();
  }
  for (const std::string& path : paths) {
    pictures.push_back(read_picture(path, flags_, memory_left(memory_, held)));
    held += pictures.back().image.rgb().size();
  }
  std::vector<std::string> lines;
  lines.reserve(pictures.size());
  for (Picture& picture : pictures) lines.push_back(add(std::move(picture)));
  return lines;
}

void WaitingPictures::put_back(const std::vector<UserPicture>& pictures) {
  std::vector<Waiting> all;
  all.reserve(pictures.size() + waiting_.size());
  for (const UserPicture& picture : pictures) all.push_back({picture, {}});
  std::ranges::move(waiting_, std::back_inserter(all));
  waiting_ = std::move(all);
}

std::vector<UserPicture> WaitingPictures::pictures() const {
  std::vector<UserPicture> all;
  for (const Waiting& waiting : waiting_) all.push_back(waiting.shown);
  return all;
}

void WaitingPictures::encode() {
  for (Waiting& waiting : waiting_) {
    if (!waiting.source) continue;
    waiting.shown.encoded = encoder_.encode(*waiting.source);
    waiting.source.reset();
  }
}

std::vector<std::string> WaitingPictures::describe() const {
  std::vector<std::string> lines;
  for (const Waiting& waiting : waiting_) lines.push_back(waiting.shown.description);
  return lines;
}

std::vector<std::string> split_file_names(const std::string& text) {
  std::error_code none;
  if (std::filesystem::is_regular_file(text, none)) return {text};
  std::vector<std::string> names;
  bool open = false;  // Something of a name was read, if only its quotes.
  char quote = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool blank = c == ' ' || c == '\t' || c == '\n';
    if (quote == 0 && blank) {
      open = false;
      continue;
    }
    if (!open) names.emplace_back();
    open = true;
    if (c == quote) {
      quote = 0;
    } else if (quote == 0 && (c == '"' || c == '\'')) {
      quote = c;
    } else if (c == '\\' && quote != '\'' && i + 1 < text.size()) {
      names.back() += text[++i];
    } else {
      names.back() += c;
    }
  }
  return names;
}

}  // namespace cli
