#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>

#include "commands.h"
#include "output_file.h"
#include "pictures.h"
#include "terminal.h"
#include "text.h"
#include "text_file.h"

namespace cli {

namespace {

using lapidary::Error;
using lapidary::ErrorCode;
using lapidary::TokenId;
static_assert(std::endian::native == std::endian::little,
              "ids and logits are little-endian in files");

struct Options {
  ModelFlags model;
  ImageFlags images;
  std::string ids;
  std::string out;
};

std::vector<TokenId> read_ids(const std::string& path) {
  const std::string bytes = read_text_file(path);
  if (bytes.empty())
    throw Error(ErrorCode::kFile, path + ": expected 32-bit token ids, found an empty file");
  if (bytes.size() % sizeof(TokenId) != 0) {
    throw Error(ErrorCode::kFile, path + ": expected 32-bit token ids, found " +
                                      std::to_string(bytes.size()) +
                                      " bytes, which is no multiple of 4");
  }
  std::vector<TokenId> ids(bytes.size() / sizeof(TokenId));
  std::memcpy(ids.data(), bytes.data(), bytes.size());
  return ids;
}

std::string_view bytes_of(std::span<const float> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

// The image token may have no row in the vocabulary.
void check_ids(const std::vector<TokenId>& ids, const lapidary::Tokenizer& tokenizer,
               const std::string& path) {
  const TokenId vocabulary = tokenizer.vocabulary_size();
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || (ids[i] >= vocabulary && ids[i] != tokenizer.image_token())) {
      throw Error(ErrorCode::kFile,
                  path + ": expected token ids from 0 to " + std::to_string(vocabulary - 1) +
                      ", found " + std::to_string(ids[i]) + " at position " + std::to_string(i));
    }
  }
}

// What the ids say of pictures must be what was given, before any is encoded.
void check_images(const std::vector<TokenId>& ids, const std::vector<Picture>& pictures,
                  const lapidary::Model& model, const std::string& path) {
  std::size_t views = 0;
  for (const Picture& picture : pictures) views += picture.views.size();
  const auto wanted = views * static_cast<std::size_t>(model.vision()->tokens);
  const auto found =
      static_cast<std::size_t>(std::ranges::count(ids, model.tokenizer().image_token()));
  if (found == wanted) return;
  throw Error(ErrorCode::kUsage,
              format("%s: expected %zu image tokens for the pictures' %zu views, found %zu",
                     path.c_str(), wanted, views, found));
}

int logits(const Options& options) {
  lapidary::Prompt prompt{read_ids(options.ids), {}};
  const std::vector<TokenId>& ids = prompt.ids;
  refuse_same_file(options.out, options.ids, "the ids");
  refuse_inputs(options.out, options.model, options.images);
  const std::vector<Picture> pictures = read_pictures(options.images, options.model.memory_limit);
  const lapidary::Model model =
      load_model(options.model, options.images,
                 pictures.empty() ? Vision::kIfGiven : Vision::kNeeded, {.screened_head = false});
  check_ids(ids, model.tokenizer(), options.ids);
  if (!pictures.empty()) check_images(ids, pictures, model, options.ids);
  lapidary::SessionOptions wanted = options.model.session();
  const int trained = std::min(model.info().trained_context, 32768);
  // No more cache than these ids need, unless a context was asked for.
  if (wanted.context == 0 && ids.size() < static_cast<std::size_t>(trained))
    wanted.context = static_cast<int>(ids.size());
  lapidary::Session session(model, wanted);
  OutputFile out(options.out);
  hold_interrupts(Interrupts::kStop);
  if (!pictures.empty()) {
    check_room(session, ids.size(), 0);
    PictureEncoder(model, options.model, options.images, session.memory_bytes())
        .fill(prompt, pictures);
  }

  ProgressBar bar("computing", options.model.quiet);
  std::atomic<bool> stop{false};
  try {
    session.append_with_logits(
        prompt,
        [&](int position, std::span<const float> row) {
          if (!out.write(bytes_of(row)) || interrupted) stop = true;
          bar.update(static_cast<std::uint64_t>(position) + 1, ids.size());
        },
        &stop);
  } catch (const Error& error) {
    out.check();
    if (error.code() == ErrorCode::kInterrupted) out.keep();  // Whole rows, as far as it came.
    throw;
  }
  bar.finish();
  out.keep();
  return interrupted ? 130 : 0;
}

}  // namespace

void add_logits(CLI::App& app, Run& run) {
  CLI::App& command =
      add_command(app, "logits", "write the logits of every position, for tests and evaluation");
  const auto options = std::make_shared<Options>();
  add_model_flags(command, options->model);
  add_image_flags(command, options->images);
  add_option(command, "--ids", options->ids, "file of 32-bit token ids, BOS included")
      .show_type("FILE")
      .required();
  add_option(command, "--out", options->out, "file to write float32 rows to")
      .show_type("FILE")
      .required()
      .environment("LAPIDARY_LOGITS_OUT");
  when_chosen(command, run, [options] { return logits(*options); });
}

}  // namespace cli
