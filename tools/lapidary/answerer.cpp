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
#include "terminal.h"
#include "text.h"

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;

namespace {

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

}  // namespace

Answerer::Answerer(const BatchOptions& options, const lapidary::Model& model)
    : options_(options),
      model_(model),
      session_(model, options.speculation.session(options.model, model)),
      encoder_(model, options.model, options.images, session_.memory_bytes()),
      memory_(memory_left(options.model, model, options.speculation.draft_bytes(options.model))),
      folder_(options.image_root.empty() ? std::filesystem::path(options.in).parent_path().string()
                                         : options.image_root),
      chat_(options.chat.chosen(model)),
      turns_(" turns " + std::to_string(static_cast<int>(options.chat.kind(model)))),
      views_(describe_views(options.images, model)),
      name_(model.info().name) {
  options.chat.tell(model, options.model.quiet);
  const std::string file = find_model(options.model.model);
  weights_ = fingerprint_file(file);
  if (name_.empty()) name_ = std::filesystem::path(file).filename().string();
}

// The line itself, its value, and what is made of that on the way to tokens.
std::uint64_t Answerer::most_line_bytes() const {
  constexpr std::uint64_t kTimes = 8;
  return memory_ == 0 ? LineReader::kMostBytes : std::min(LineReader::kMostBytes, memory_ / kTimes);
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

std::string Answerer::answer(const BatchItem& item, std::uint64_t seed, bool& failed) {
  failed = true;
  try {
    if (item.wrong) throw *item.wrong;
    std::string text = answer_line(item.request, compute(item.request, seed), name_, item.digest);
    failed = false;
    return text;
  } catch (const RequestError& error) {
    return error_line(item.request, error, item.digest);
  } catch (const std::bad_alloc&) {
    return error_line(item.request, {"out_of_memory", "not enough memory"}, item.digest);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kInterrupted) throw;
    return error_line(item.request, request_error(error), item.digest);
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
  check_text(session_, bytes);
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

BatchAnswer Answerer::compute(const BatchRequest& request, std::uint64_t seed) {
  std::vector<Picture> pictures;
  lapidary::Prompt prompt = make_prompt(request, pictures);
  check_room(session_, prompt.ids.size());
  if (!pictures.empty()) encoder_.fill(prompt, pictures);
  session_.clear();
  session_.append(prompt, {}, &interrupted);
  lapidary::GenerateOptions wanted = request.sampling.options(seed);
  if (in_turns(request)) options_.chat.stop_at_turns(model_, wanted.stop);
  options_.speculation.apply(wanted);
  const lapidary::Completion completion = session_.generate(wanted);
  if (completion.finish_reason == lapidary::FinishReason::kCancelled)
    throw Error(ErrorCode::kInterrupted, "interrupted");
  drawn_ += static_cast<long>(completion.ids.size());
  guesses_.drafted_tokens += completion.usage.drafted_tokens;
  guesses_.accepted_tokens += completion.usage.accepted_tokens;
  return {completion.text,
          completion.finish_reason,
          static_cast<int>(prompt.ids.size()),
          0,
          static_cast<int>(completion.ids.size()),
          seed};
}

}  // namespace cli
