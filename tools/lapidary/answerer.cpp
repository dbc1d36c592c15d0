#include "answerer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <new>
#include <utility>

#include "model_folder.h"
#include "score_choices.h"
#include "terminal.h"
#include "text.h"

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;

RequestError request_error(const Error& error) {
  switch (error.code()) {
    case ErrorCode::kContext:
      return {"context_length_exceeded", error.what()};
    case ErrorCode::kUsage:
      return {"invalid_request", error.what()};
    case ErrorCode::kMemory:
      return {"out_of_memory", error.what()};
    default:
      return {"failed", error.what()};
  }
}

std::uint64_t prompt_bytes(const lapidary::Request& request) {
  std::uint64_t bytes = request.prompt.ids.size() * sizeof(lapidary::TokenId);
  for (const std::vector<lapidary::TokenId>& choice : request.choices)
    bytes += choice.size() * sizeof(lapidary::TokenId);
  for (const lapidary::ImageFeatures& image : request.prompt.images) {
    if (image.values) bytes += image.values->size() * sizeof(float);
  }
  return bytes;
}

namespace {

// Tells files of weights apart wherever they lie: by size and by pieces from all over, since two
// fine-tunes of a model may have the same header.
std::string fingerprint_file(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw Error(ErrorCode::kFile, "cannot open " + path + ": " + std::strerror(errno));
  struct stat status = {};
  const off_t size = ::fstat(file, &status) == 0 ? status.st_size : 0;
  std::string pieces = std::to_string(size);
  constexpr off_t kPieces = 64;
  for (off_t i = 0; i < kPieces; ++i) {
    char piece[4096];
    const ssize_t got = ::pread(file, piece, sizeof piece, size / kPieces * i);
    if (got > 0) pieces.append(piece, static_cast<std::size_t>(got));
  }
  ::close(file);
  return fingerprint(pieces);
}

std::string describe_views(const ImageFlags& images, const lapidary::Model& model) {
  const lapidary::ImageOptions shown = images.options();
  Json all;
  if (model.vision() != nullptr) all["vision"] = fingerprint_file(model.vision()->path);
  all["views"] = {images.alpha,    shown.pan_and_scan, shown.min_crop,     shown.max_crops,
                  shown.min_ratio, shown.auto_tiles,   shown.tile_columns, shown.tile_rows};
  return to_line(all);
}

// Under a limit the engine shares what pictures and the process leave with requests.
lapidary::EngineOptions engine_options(const ModelFlags& flags, const lapidary::Model& model) {
  lapidary::EngineOptions options;
  options.threads = flags.threads;
  options.pass = flags.chunk;
  options.context = flags.context;
  options.kv = kv_type(flags.kv);
  options.prefix_cache = flags.prefix_cache;
  options.prefix_cache_size = flags.prefix_cache_size;
  if (flags.memory_limit == 0) return options;
  lapidary::ModelOptions half;
  if (model.vision() != nullptr) half.vision = model.vision()->path;
  const lapidary::MemoryPlan plan = plan_memory(find_model(flags.model), half, flags.session());
  options.memory_limit = memory_left(flags.memory_limit, plan.vision + plan.process);
  return options;
}

// Nothing is drawn.
bool made_of_prompt_alone(const BatchRequest& request) {
  return request.choices.empty() && request.sampling.max_tokens == 0;
}

std::uint64_t taken_by(const lapidary::Engine& engine) {
  const lapidary::EngineStats stats = engine.stats();
  return stats.kv_bytes + stats.buffer_bytes;
}

// What an engine takes beyond the session that a plan counts; only a limit asks for it.
std::uint64_t beyond_plan(const ModelFlags& flags, const lapidary::Engine& engine) {
  if (flags.memory_limit == 0) return 0;
  const lapidary::MemoryPlan plan = plan_memory(find_model(flags.model), {}, flags.session());
  const std::uint64_t planned = plan.kv + plan.buffers;
  return std::max(taken_by(engine), planned) - planned;
}

}  // namespace

Answerer::Answerer(const BatchOptions& options, const lapidary::Model& model)
    : options_(options),
      model_(model),
      engine_(model, engine_options(options.model, model)),
      context_(engine_.context()),
      encoder_(model, options.model, options.images, taken_by(engine_)),
      memory_(memory_left(options.model, model, beyond_plan(options.model, engine_))),
      folder_(options.image_root.empty() ? std::filesystem::path(options.in).parent_path().string()
                                         : options.image_root),
      chat_(options.chat.chosen(model)),
      turns_(" turns " + std::to_string(static_cast<int>(options.chat.kind(model)))),
      views_(describe_views(options.images, model)),
      name_(model.info().name) {
  options.chat.tell(model, options.model.quiet);
  tell_prefix_cache();
  const std::string file = find_model(options.model.model);
  weights_ = fingerprint_file(file);
  if (options.model.kv != "bf16") weights_ += " kv " + options.model.kv;
  if (name_.empty()) name_ = std::filesystem::path(file).filename().string();
}

// The line itself, its value, and what is made of that on the way to tokens.
std::uint64_t Answerer::most_line_bytes() const {
  constexpr std::uint64_t kTimes = 8;
  return memory_ == 0 ? LineReader::kMostBytes : std::min(LineReader::kMostBytes, memory_ / kTimes);
}

std::uint64_t Answerer::most_prompt_bytes() const {
  constexpr std::uint64_t kMost = std::uint64_t{256} << 20;
  constexpr std::uint64_t kTimes = 8;
  return memory_ == 0 ? kMost : std::min(kMost, memory_ / kTimes);
}

bool Answerer::in_turns(const BatchRequest& request) const {
  return !request.messages.empty() || (chat_ && !request.raw);
}

std::string Answerer::digest(const BatchRequest& request) const {
  std::string all = meaning(request, folder_) + weights_;
  if (in_turns(request)) all += turns_;
  if (request.has_pictures()) all += views_;
  return fingerprint(all);
}

BatchItem Answerer::read(const RequestFile& requests, const std::string& line) const {
  BatchItem item;
  item.request.line = requests.number();
  item.place = requests.place();
  item.digest = fingerprint(line);
  try {
    if (requests.too_long())
      throw RequestError{"invalid_request",
                         "the line is longer than " + human_bytes(requests.most_bytes())};
    if (requests.no_memory()) throw std::bad_alloc();
    parse_request(line, options_.sampling, folder_, item.request);
    item.digest = digest(item.request);
  } catch (const RequestError& error) {
    item.wrong = error;
  } catch (const std::bad_alloc&) {
    item.wrong = RequestError{"out_of_memory", "not enough memory to read the line"};
  }
  return item;
}

lapidary::Request Answerer::prepare(const BatchItem& item, std::uint64_t seed) {
  if (item.wrong) throw *item.wrong;
  try {
    return make_request(item.request, seed);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kInterrupted) throw;
    throw request_error(error);
  }
}

// With pictures that are not encoded yet; they are put behind `pictures`.
std::vector<lapidary::ContentPart> Answerer::read_parts(const std::vector<RequestPart>& parts,
                                                        std::vector<Picture>& pictures) const {
  std::vector<lapidary::ContentPart> content;
  for (const RequestPart& part : parts) {
    if (!part.picture) {
      content.push_back({part.text});
      continue;
    }
    if (model_.vision() == nullptr) throw RequestError{"unsupported", kNoVisionFile};
    pictures.push_back(read_picture(*part.picture, options_.images,
                                    memory_left(memory_, decoded_bytes(pictures)),
                                    options_.image_root));
    content.push_back({{}, unencoded(pictures.back(), model_)});
  }
  return content;
}

lapidary::Prompt Answerer::make_prompt(const BatchRequest& request,
                                       std::vector<Picture>& pictures) const {
  std::size_t bytes = 0;
  for (const RequestMessage& message : request.messages) {
    for (const RequestPart& part : message.parts) bytes += part.text.size();
  }
  for (const RequestPart& part : request.prompt) bytes += part.text.size();
  check_text(model_.tokenizer(), context_, bytes);
  const lapidary::Tokenizer& tokenizer = model_.tokenizer();
  std::vector<lapidary::Message> messages;
  for (const RequestMessage& message : request.messages)
    messages.push_back({message.role, {}, read_parts(message.parts, pictures)});
  if (!messages.empty())
    return lapidary::chat_prompt(tokenizer, messages, options_.chat.kind(model_), &interrupted);
  std::vector<lapidary::ContentPart> parts = read_parts(request.prompt, pictures);
  if (!in_turns(request)) return lapidary::text_prompt(tokenizer, parts, false, &interrupted);
  const lapidary::Message user{"user", {}, std::move(parts)};
  return lapidary::chat_prompt(tokenizer, {&user, 1}, options_.chat.kind(model_), &interrupted);
}

lapidary::Request Answerer::make_request(const BatchRequest& request, std::uint64_t seed) {
  if (request.echo && in_turns(request)) {
    throw RequestError{"unsupported",
                       "echo: expected a prompt that is completed as it is (--no-chat), found one "
                       "that is put into turns"};
  }
  std::vector<Picture> pictures;
  lapidary::Request made;
  made.prompt = make_prompt(request, pictures);
  check_room(context_, made.prompt.ids.size(), made_of_prompt_alone(request) ? 0 : 1);
  if (!pictures.empty()) encoder_.fill(made.prompt, pictures);
  made.options = request.sampling.options(seed);
  if (in_turns(request)) options_.chat.stop_at_turns(model_, made.options.stop);
  options_.speculation.apply(made.options);
  made.answers = request.answers;
  made.choices = choice_ids(model_.tokenizer(), context_, request.choices);
  made.options.logprobs = request.logprobs;
  made.echo = request.echo && request.logprobs >= 0;
  return made;
}

}  // namespace cli
