#include <unistd.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>

#include "commands.h"
#include "json.h"
#include "output_file.h"
#include "pictures.h"
#include "png_file.h"
#include "terminal.h"
#include "text.h"

namespace cli {

namespace {

using lapidary::Error;
using lapidary::ErrorCode;

struct Options {
  ModelFlags model;
  ImageFlags images;
  std::string out;
  std::string inputs;
  bool json = false;
};

Json describe(const Picture& picture, const lapidary::Tokenizer& tokenizer) {
  Json object;
  object["image"] = picture.name;
  object["width"] = picture.image.width();
  object["height"] = picture.image.height();
  object["views"] = Json::array();
  for (const lapidary::ImageView& view : picture.views) {
    object["views"].push_back(
        {{"x", view.x}, {"y", view.y}, {"width", view.width}, {"height", view.height}});
  }
  object["tokens"] =
      lapidary::image_prompt_tokens(tokenizer, static_cast<int>(picture.views.size()));
  return object;
}

std::string table(const Picture& picture, const lapidary::Tokenizer& tokenizer) {
  std::string text = picture.describe(tokenizer) + "\n";
  for (std::size_t i = 0; i < picture.views.size(); ++i) {
    const lapidary::ImageView& view = picture.views[i];
    text += format("  view %zu: x %d, y %d, %d x %d\n", i, view.x, view.y, view.width, view.height);
  }
  return text;
}

// `number` with the zeros in front that make it as long as `last`.
std::string padded(std::size_t number, std::size_t last, std::size_t least) {
  const std::string digits = std::to_string(number);
  const std::size_t width = std::max(least, std::to_string(last).size());
  return std::string(width - digits.size(), '0') + digits;
}

// Names that sort as the encoder gets them: NAME.00.png, with the picture's number in front where
// there are several.
std::string input_name(std::span<const Picture> pictures, std::size_t picture, std::size_t view) {
  const std::string name = std::filesystem::path(pictures[picture].name).stem().string();
  const std::string front =
      pictures.size() == 1 ? "" : padded(picture, pictures.size() - 1, 2) + ".";
  return front + name + "." + padded(view, pictures[picture].views.size() - 1, 2) + ".png";
}

void save_inputs(const Options& options, std::span<const Picture> pictures, int size) {
  std::error_code error;
  std::filesystem::create_directories(options.inputs, error);
  if (!std::filesystem::is_directory(options.inputs))
    throw Error(ErrorCode::kFile, options.inputs + ": is no folder and cannot be made one" +
                                      (error ? ": " + error.message() : ""));
  const std::filesystem::path folder(options.inputs);
  std::uint64_t total = 0;
  for (const Picture& picture : pictures) total += picture.views.size();
  ProgressBar bar("saving", options.model.quiet);
  std::uint64_t done = 0;
  for (std::size_t p = 0; p < pictures.size(); ++p) {
    for (std::size_t v = 0; v < pictures[p].views.size(); ++v) {
      const lapidary::Image input = lapidary::encoder_input(pictures[p].image, pictures[p].views[v],
                                                            size, options.model.threads);
      if (interrupted) throw Error(ErrorCode::kInterrupted, "interrupted");
      write_png((folder / input_name(pictures, p, v)).string(), input);
      bar.update(++done, total);
    }
  }
}

// None of what is given may be written over.
void check_outputs(const Options& options, std::span<const Picture> pictures) {
  refuse_inputs(options.out, options.model, options.images);
  if (options.inputs.empty()) return;
  const std::filesystem::path folder(options.inputs);
  for (std::size_t p = 0; p < pictures.size(); ++p) {
    for (std::size_t v = 0; v < pictures[p].views.size(); ++v)
      refuse_inputs((folder / input_name(pictures, p, v)).string(), options.model, options.images);
  }
}

void encode(const Options& options, const lapidary::Model& model,
            std::span<const Picture> pictures) {
  std::optional<OutputFile> out;
  if (!options.out.empty()) out.emplace(options.out);
  PictureEncoder encoder(model, options.model, options.images);
  for (const Picture& picture : pictures) {
    const lapidary::EncodedImage encoded = encoder.encode(picture);
    for (const lapidary::ImageFeatures& view : encoded.features) {
      if (!out) continue;
      const std::span<const float> values = *view.values;
      out->write({reinterpret_cast<const char*>(values.data()), values.size_bytes()});
      out->check();
    }
  }
  if (out) out->keep();
  if (options.model.quiet) return;
  const int encoded = encoder.views() - encoder.cached();
  write_all(
      STDERR_FILENO,
      format("load vision %.2f s; %s encoded in %.2f s (%d were in the cache)\n",
             encoder.load_seconds(), counted(static_cast<std::uint64_t>(encoded), "view").c_str(),
             encoder.seconds(), encoder.cached()));
}

int encode_image(const Options& options) {
  const std::vector<Picture> pictures = read_pictures(options.images, options.model.memory_limit);
  const lapidary::Model model =
      load_model(options.model, options.images, Vision::kNeeded, {.screened_head = false}, false,
                 decoded_bytes(pictures));
  check_outputs(options, pictures);
  hold_interrupts(Interrupts::kStop);
  Output output;
  for (const Picture& picture : pictures) {
    output.write(options.json ? to_line(describe(picture, model.tokenizer())) + "\n"
                              : table(picture, model.tokenizer()));
  }
  output.check();
  if (!options.inputs.empty()) save_inputs(options, pictures, model.vision()->image_size);
  if (!options.out.empty() || options.inputs.empty()) encode(options, model, pictures);
  return 0;
}

}  // namespace

void add_encode_image(CLI::App& app, Run& run) {
  CLI::App& command = add_command(
      app, "encode-image", "what the model is shown of pictures, and what they are encoded to");
  const auto options = std::make_shared<Options>();
  add_file_flags(command, options->model);
  add_image_flags(command, options->images);
  find_option(command, "--image").required();
  add_option(command, "--out", options->out,
             "file to write the features to: float32, 256 rows a view")
      .show_type("FILE")
      .environment("LAPIDARY_ENCODE_IMAGE_OUT");
  add_option(command, "--save-inputs", options->inputs,
             "folder to write what the encoder gets to, as PNG files; without --out nothing is "
             "encoded then")
      .show_type("FOLDER");
  add_flag(command, "--json", options->json, "one JSON object a picture");
  when_chosen(command, run, [options] { return encode_image(*options); });
}

}  // namespace cli
