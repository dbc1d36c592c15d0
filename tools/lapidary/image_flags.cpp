#include "image_flags.h"

#include <charconv>
#include <filesystem>
#include <utility>

#include "json.h"
#include "model_folder.h"
#include "output_file.h"
#include "terminal.h"

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;

const char* const kNoVisionFile =
    "the model has no vision file (an mmproj GGUF): none, or several, lie beside it; give --mmproj "
    "FILE";

namespace {

// "3x2": columns and rows.
std::optional<std::pair<int, int>> parse_grid(const std::string& text) {
  int columns = 0;
  int rows = 0;
  const char* end = text.data() + text.size();
  const auto [times, first] = std::from_chars(text.data(), end, columns);
  if (first != std::errc() || times == end || *times != 'x') return {};
  const auto [rest, second] = std::from_chars(times + 1, end, rows);
  if (second != std::errc() || rest != end || columns < 1 || rows < 1) return {};
  return std::pair(columns, rows);
}

std::string wrong_grid(const std::string& text) {
  if (text == "auto" || parse_grid(text)) return {};
  return "expected auto or columns x rows such as 3x2, got " + shortened(text);
}

}  // namespace

lapidary::ImageOptions ImageFlags::options() const {
  lapidary::ImageOptions options = shown;
  options.auto_tiles = tiles == "auto";
  if (const auto grid = parse_grid(tiles)) {
    options.tile_columns = grid->first;
    options.tile_rows = grid->second;
  }
  return options;
}

lapidary::ImageLoadOptions ImageFlags::loading(std::uint64_t memory_limit) const {
  using Alpha = lapidary::ImageLoadOptions::Alpha;
  return {alpha == "drop" ? Alpha::kDrop : Alpha::kOnWhite, memory_limit, &interrupted};
}

void add_vision_flag(CLI::App& app, ImageFlags& flags) {
  add_option(app, "--mmproj", flags.vision,
             "vision file of the model; may be left out when exactly one lies beside it")
      .show_type("FILE");
}

void add_view_flags(CLI::App& app, ImageFlags& flags) {
  add_vision_flag(app, flags);
  lapidary::ImageOptions& shown = flags.shown;
  const Option strips =
      add_flag(app, "--pan-and-scan", shown.pan_and_scan,
               "show wide and tall pictures in strips as well, each for 256 tokens more");
  add_option(app, "--min-crop", shown.min_crop, "pixels that a strip has at least")
      .range(1, 1 << 20);
  add_option(app, "--max-crops", shown.max_crops, "most strips of a picture").range(2, 256);
  add_option(app, "--crop-ratio", shown.min_ratio, "long to short side from which strips are cut")
      .range(1, 1000);
  add_option(app, "--tiles", flags.tiles,
             "show a grid of tiles as well, for dense documents: auto, or columns x rows")
      .check(wrong_grid, "auto|CxR")
      .excludes(strips);
  add_option(
      app, "--alpha", flags.alpha,
      "what is transparent: shown on white, or the colours under it as Gemma's processor has")
      .one_of({"white", "drop"})
      .show_default(flags.alpha);
  add_option(app, "--image-cache", flags.cache_folder,
             "folder that keeps what pictures were encoded to, shared by all runs")
      .show_type("FOLDER");
}

void add_image_flags(CLI::App& app, ImageFlags& flags) {
  add_option(app, "--image", flags.images, "picture to look at; may be given several times")
      .show_type("FILE");
  add_view_flags(app, flags);
}

lapidary::Model load_model(const ModelFlags& model, const ImageFlags& images, Vision vision,
                           lapidary::ModelOptions options, bool session, std::uint64_t beside) {
  ModelFlags found = model;
  found.model = find_model(model.model);
  options.vision = images.vision;
  options.image_cache_folder = images.cache_folder;
  options.image_cache_bytes = images.cache_bytes;
  if (options.vision.empty() && vision != Vision::kIfGiven)
    options.vision = lapidary::find_vision_file(found.model);
  if (options.vision.empty() && vision == Vision::kNeeded) {
    lapidary::inspect(found.model);  // What is wrong with the model itself comes first.
    throw Error(ErrorCode::kUsage, kNoVisionFile);
  }
  lapidary::ModelOptions planned = options;
  // Where pictures only may come, what they take is looked at when they do.
  if (vision != Vision::kNeeded) planned.vision.clear();
  check_memory(found, planned, session, beside);
  return load_model(found, options);
}

void refuse_inputs(const std::string& out, const ModelFlags& model, const ImageFlags& images) {
  std::error_code none;
  if (!std::filesystem::is_regular_file(out, none)) return;
  for (const std::string& image : images.images) refuse_same_file(out, image, "the picture");
  const std::string weights = find_model(model.model);
  refuse_same_file(out, weights, "the model");
  refuse_same_file(out, images.vision.empty() ? lapidary::find_vision_file(weights) : images.vision,
                   "the vision file");
}

}  // namespace cli
