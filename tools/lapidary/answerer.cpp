#include "answerer.h"

#include <filesystem>
#include <new>
#include <utility>

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

// The model by what its file says, not by where it lies.
std::string describe_setup(const BatchOptions& options, const lapidary::Model& model, bool chat) {
  const lapidary::ModelInfo& info = model.info();
  const lapidary::VisionInfo* vision = model.vision();
  const lapidary::ImageOptions shown = options.images.options();
  Json all;
  all["model"] = {info.name, info.file_bytes, info.parameters, info.vocabulary};
  all["vision"] = vision == nullptr ? Json(nullptr) : Json(vision->file_bytes);
  all["chat"] = chat;
  all["template"] = static_cast<int>(options.chat.kind(model));
  all["views"] = {options.images.alpha, shown.pan_and_scan, shown.min_crop,     shown.max_crops,
                  shown.min_ratio,      shown.auto_tiles,   shown.tile_columns, shown.tile_rows};
  return to_line(all);
}

}  // namespace

Answerer::Answerer(const BatchOptions& options, const lapidary::Model& model)
    : options_(options),
      model_(model),
      session_(model, options.speculation.session(options.model, model)),
      encoder_(model, options.model, options.images, session_.memory_bytes()),
      folder_(options.image_root.empty() ? std::filesystem::path(options.in).parent_path().string()
                                         : options.image_root),
      chat_(options.chat.chosen(model)),
      setup_(describe_setup(options, model, chat_)) {
  options.chat.tell(model, options.model.quiet);
  name_ = model.info().name.empty() ? std::filesystem::path(options.model.model).filename().string()
                                    : model.info().name;
}

BatchItem Answerer::read(const RequestFile& requests, const std::string& line) const {
  BatchItem item;
  item.request.line = requests.number();
  item.digest = fingerprint(line);
  try {
    if (requests.too_long())
      throw RequestError{
          "invalid_request",
          "the line is longer than " + std::to_string(RequestFile::kMostLineBytes >> 20U) + " MiB"};
    parse_request(line, options_.sampling, folder_, item.request);
    item.digest = fingerprint(meaning(item.request) + setup_);
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
    pictures.push_back(read_picture(*part.picture, options_.images, options_.model.memory_limit,
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
    return lapidary::chat_prompt(tokenizer, messages, options_.chat.kind(model_));
  std::vector<lapidary::ContentPart> parts = read_parts(request.prompt, pictures);
  if (request.raw || !chat_) return lapidary::text_prompt(tokenizer, parts);
  const lapidary::Message user{"user", {}, std::move(parts)};
  return lapidary::chat_prompt(tokenizer, {&user, 1}, options_.chat.kind(model_));
}

BatchAnswer Answerer::compute(const BatchRequest& request, std::uint64_t seed) {
  std::vector<Picture> pictures;
  lapidary::Prompt prompt = make_prompt(request, pictures);
  check_room(session_, prompt.ids.size());
  if (!pictures.empty()) encoder_.fill(prompt, pictures);
  session_.clear();
  session_.append(prompt, {}, &interrupted);
  lapidary::GenerateOptions wanted = request.sampling.options(seed);
  if (!request.messages.empty() || (chat_ && !request.raw))
    options_.chat.stop_at_turns(model_, wanted.stop);
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
