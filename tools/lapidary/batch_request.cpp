#include "batch_request.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <utility>

namespace cli {

namespace {

[[noreturn]] void refuse(const std::string& message) {
  throw RequestError{"invalid_request", message};
}

// Absent and null are the same: the default holds.
const Json* find(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

double number(const Json& value, const char* key, const Setting& setting) {
  const double got = value.is_number() ? value.get<double>() : std::nan("");
  if (!setting.allows(got))
    refuse(std::string(key) + ": " + setting.expected() + ", found " + quoted(value));
  return got;
}

void read_seed(const Json& object, std::optional<std::uint64_t>& seed) {
  const Json* found = find(object, "seed");
  if (found == nullptr) return;
  if (!found->is_number_integer() || !parse_seed(to_line(*found), seed))
    refuse(std::string("seed: ") + kExpectedSeed + ", found " + quoted(*found));
}

void read_stop(const Json& object, std::vector<std::string>& stop) {
  const Json* found = find(object, "stop");
  if (found == nullptr) return;
  stop.clear();
  const Json list = found->is_array() ? *found : Json::array({*found});
  for (const Json& text : list) {
    if (!text.is_string())
      refuse("stop: expected a string or an array of strings, found " + quoted(*found));
    if (text.get_ref<const std::string&>().empty())
      refuse("stop: expected text, found an empty string");
    stop.push_back(text.get<std::string>());
  }
}

void read_sampling(const Json& object, SamplingFlags& sampling) {
  for (const Setting& setting : sampling_settings()) {
    for (const char* key :
         {setting.member, std::string_view(setting.member) == "max_tokens" ? "max_completion_tokens"
                                                                           : setting.member}) {
      if (const Json* found = find(object, key))
        setting.set(sampling, number(*found, key, setting));
    }
  }
  read_seed(object, sampling.seed);
  read_stop(object, sampling.stop);
}

// The string where a part of a message says that its picture is, in one of
// {"type": "image_url", "image_url": {"url": …}}, with the address itself as "image_url", and
// {"type": "image", "path" or "url" or "image": …}.
const Json* picture_address(const Json& part, const std::string& type) {
  const Json* address = nullptr;
  if (type == "image_url") {
    address = find(part, "image_url");
    if (address != nullptr && address->is_object()) address = find(*address, "url");
  } else if (type == "image") {
    for (const char* key : {"path", "url", "image"}) {
      if (address == nullptr) address = find(part, key);
    }
  }
  return address != nullptr && address->is_string() ? address : nullptr;
}

RequestPart read_part(const Json& part, const std::string& folder) {
  const Json* type = part.is_object() ? find(part, "type") : nullptr;
  const Json* text = part.is_object() ? find(part, "text") : nullptr;
  const std::string kind = type != nullptr && type->is_string() ? type->get<std::string>() : "";
  if (kind == "text" && text != nullptr && text->is_string()) return {text->get<std::string>()};
  if (const Json* address = part.is_object() ? picture_address(part, kind) : nullptr)
    return {"", parse_picture_source(address->get_ref<const std::string&>(), folder)};
  refuse(
      "content: expected parts {type: text, text}, {type: image_url, image_url: {url}} or "
      "{type: image, path}, found " +
      quoted(part));
}

// Text, or an array of parts.
std::vector<RequestPart> read_content(const Json& content, const std::string& folder) {
  if (content.is_string()) return {{content.get<std::string>()}};
  if (!content.is_array())
    refuse("content: expected a string or an array of parts, found " + quoted(content));
  std::vector<RequestPart> parts;
  for (const Json& part : content) parts.push_back(read_part(part, folder));
  return parts;
}

void read_messages(const Json& list, const std::string& folder,
                   std::vector<RequestMessage>& messages) {
  if (!list.is_array() || list.empty())
    refuse("messages: expected an array of at least one message");
  for (const Json& entry : list) {
    const Json* role = entry.is_object() ? find(entry, "role") : nullptr;
    const Json* content = entry.is_object() ? find(entry, "content") : nullptr;
    if (role == nullptr || !role->is_string() || content == nullptr) {
      refuse("messages: expected objects with role and content, found " + quoted(entry));
    }
    const std::string name = *role == "developer" ? "system" : role->get<std::string>();
    messages.push_back({name, read_content(*content, folder)});
  }
}

std::vector<RequestPart> read_images(const Json& body, const std::string& folder) {
  const Json* images = find(body, "images");
  if (images == nullptr) return {};
  if (!images->is_array())
    refuse("images: expected an array of file names, found " + quoted(*images));
  std::vector<RequestPart> parts;
  for (const Json& image : *images) {
    if (!image.is_string()) refuse("images: expected file names, found " + quoted(image));
    parts.push_back({"", parse_picture_source(image.get_ref<const std::string&>(), folder)});
  }
  return parts;
}

// `images` before the last user message's text.
void put_images(const std::vector<RequestPart>& images, std::vector<RequestMessage>& messages) {
  if (images.empty()) return;
  const auto last = std::ranges::find(messages.rbegin(), messages.rend(), std::string("user"),
                                      &RequestMessage::role);
  if (last == messages.rend()) refuse("images: there is no message with role user to put them in");
  last->parts.insert(last->parts.begin(), images.begin(), images.end());
}

void read_prompt(const Json& body, const std::string& folder, BatchRequest& request) {
  const Json* prompt = find(body, "prompt");
  const Json* messages = find(body, "messages");
  if ((prompt == nullptr) == (messages == nullptr)) refuse("expected either prompt or messages");
  std::vector<RequestPart> images = read_images(body, folder);
  if (messages != nullptr) {
    read_messages(*messages, folder, request.messages);
    return put_images(images, request.messages);
  }
  if (!prompt->is_string()) refuse("prompt: expected a string, found " + quoted(*prompt));
  const std::string text = prompt->get<std::string>();
  if (text.empty() && images.empty()) refuse("prompt: expected text, found an empty string");
  request.prompt = std::move(images);
  request.prompt.push_back({text});
}

void read_openai(const Json& line, const std::string& folder, BatchRequest& request) {
  const Json* body = find(line, "body");
  if (body == nullptr || !body->is_object()) refuse("body: expected an object");
  request.openai_chat = body->contains("messages");
  request.raw = !request.openai_chat;
  if (const Json* n = find(*body, "n"); n != nullptr && *n != 1)
    refuse("n: expected 1, found " + quoted(*n));
  read_sampling(*body, request.sampling);
  read_prompt(*body, folder, request);
}

}  // namespace

Json line_id(const Json& line) {
  if (!line.is_object()) return nullptr;
  if (line.contains("custom_id")) return line["custom_id"];
  return line.contains("id") ? line["id"] : Json(nullptr);
}

void parse_request(const std::string& line, const SamplingFlags& defaults,
                   const std::string& folder, BatchRequest& request) {
  request.sampling = defaults;
  std::string wrong;
  const Json object = parse_json(line, wrong);
  if (object.is_discarded()) throw RequestError{"invalid_json", "the line is " + wrong};
  if (!object.is_object())
    throw RequestError{"invalid_json",
                       "expected a JSON object, found " + std::string(object.type_name())};
  request.id = line_id(object);
  request.openai = object.contains("custom_id") || object.contains("body");
  if (request.openai) return read_openai(object, folder, request);
  read_sampling(object, request.sampling);
  read_prompt(object, folder, request);
}

namespace {

// OpenAI gives every answer an id of its own; ours follows from the request's.
std::string answer_id(const char* prefix, const BatchRequest& request) {
  return prefix + (request.id.is_string() ? request.id.get<std::string>() : to_line(request.id));
}

Json openai_body(const BatchRequest& request, const BatchAnswer& answer, const std::string& model) {
  Json choice;
  choice["index"] = 0;
  if (request.openai_chat) {
    choice["message"] = {{"role", "assistant"}, {"content", answer.text}};
  } else {
    choice["text"] = answer.text;
  }
  choice["logprobs"] = nullptr;
  choice["finish_reason"] = finish_name(answer.finish_reason);
  Json body;
  body["id"] = answer_id(request.openai_chat ? "chatcmpl-" : "cmpl-", request);
  body["object"] = request.openai_chat ? "chat.completion" : "text_completion";
  body["created"] = static_cast<std::int64_t>(std::time(nullptr));
  body["model"] = model;
  body["choices"] = Json::array({choice});
  body["usage"] = {{"prompt_tokens", answer.prompt_tokens},
                   {"completion_tokens", answer.completion_tokens},
                   {"total_tokens", answer.prompt_tokens + answer.completion_tokens},
                   {"prompt_tokens_details", {{"cached_tokens", answer.cached_tokens}}}};
  return body;
}

}  // namespace

std::string answer_line(const BatchRequest& request, const BatchAnswer& answer,
                        const std::string& model) {
  Json line;
  if (request.openai) {
    line["id"] = answer_id("batch_req_", request);
    line["custom_id"] = request.id;
    line["response"] = {{"status_code", 200},
                        {"request_id", answer_id("req_", request)},
                        {"body", openai_body(request, answer, model)}};
    line["error"] = nullptr;
    return to_line(line) + "\n";
  }
  line["id"] = request.id;
  line["text"] = answer.text;
  line["finish_reason"] = finish_name(answer.finish_reason);
  line["usage"] = {{"prompt_tokens", answer.prompt_tokens},
                   {"completion_tokens", answer.completion_tokens},
                   {"cached_tokens", answer.cached_tokens}};
  return to_line(line) + "\n";
}

std::string error_line(const BatchRequest& request, const RequestError& error) {
  Json line;
  if (request.openai) {
    line["id"] = answer_id("batch_req_", request);
    line["custom_id"] = request.id;
    line["response"] = nullptr;
  } else {
    line["id"] = request.id;
  }
  line["error"] = {{"code", error.code}, {"message", error.message}};
  return to_line(line) + "\n";
}

}  // namespace cli
