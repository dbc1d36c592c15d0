#include "batch_request.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <utility>

#include "memory_reserve.h"
#include "request_members.h"
#include "request_scores.h"
#include "text.h"

namespace cli {

namespace {

constexpr double kExactDouble = 0x1p53;  // Whole numbers below are exact.
constexpr std::size_t kMostIdBytes = 1000;

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
  // Programs that know only one kind of number write 3.0.
  const double number = found->is_number_float() ? found->get<double>() : 0;
  const bool whole = number == std::floor(number) && std::abs(number) < kExactDouble;
  const std::string text =
      found->is_number_float() && whole ? format("%.0f", number) : to_line(*found);
  if (!found->is_number() || !parse_seed(text, seed))
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

int read_answers(const Json& object) {
  constexpr double kMost = 128;
  const Json* found = find(object, "n");
  const double got = found != nullptr && found->is_number() ? found->get<double>() : 0;
  if (found != nullptr && (got != std::floor(got) || got < 1 || got > kMost))
    refuse("n: expected a whole number from 1 to 128, found " + quoted(*found));
  return found == nullptr ? 1 : static_cast<int>(got);
}

void read_sampling(const Json& object, SamplingFlags& sampling) {
  std::map<std::string, std::string> taken;  // Which member set a setting.
  for (const auto& [key, value] : object.items()) {
    if (value.is_null()) continue;
    const std::string name = canonical_member(key);
    for (const Setting& setting : sampling_settings()) {
      if (name != setting.member) continue;
      const double got = number(value, key.c_str(), setting);
      const auto [other, first] = taken.emplace(name, key);
      if (!first && *find(object, other->second.c_str()) != value)
        refuse(key + " and " + other->second + " say two things");
      setting.set(sampling, got);
    }
  }
  read_seed(object, sampling.seed);
  read_stop(object, sampling.stop);
}

// The string where a part of a message says that its picture is, in one of
// {"type": "image_url", "image_url": {"url": …}}, with the address itself as "image_url", and
// {"type": "image", "path" or "url" or "image": …}.
const Json* picture_address(const Json& part, const std::string& type, const std::string& where) {
  const Json* address = nullptr;
  if (type == "image_url") {
    address = find(part, "image_url");
    if (address != nullptr && address->is_object()) address = find(*address, "url");
  } else if (type == "image") {
    for (const char* key : {"path", "url", "image"}) {
      const Json* found = find(part, key);
      if (found != nullptr && address != nullptr)
        refuse(where + ": expected one of path, url and image, found several");
      if (found != nullptr) address = found;
    }
  }
  return address != nullptr && address->is_string() ? address : nullptr;
}

RequestPart read_part(const Json& part, const std::string& folder, const std::string& where) {
  const Json* type = part.is_object() ? find(part, "type") : nullptr;
  const std::string kind = type != nullptr && type->is_string() ? type->get<std::string>() : "";
  if (kind == "text" || kind == "image" || kind == "image_url") {
    check_part(part, kind, where);
    const Json* text = kind == "text" ? find(part, "text") : nullptr;
    if (text != nullptr && text->is_string()) return {text->get<std::string>()};
    if (const Json* address = picture_address(part, kind, where))
      return {"", parse_picture_source(address->get_ref<const std::string&>(), folder)};
  }
  refuse(where +
         ": expected {type: text, text}, {type: image_url, image_url: {url}} or "
         "{type: image, path}, found " +
         quoted(part));
}

// Text, or an array of parts.
std::vector<RequestPart> read_content(const Json& content, const std::string& folder,
                                      const std::string& where) {
  if (content.is_string()) return {{content.get<std::string>()}};
  if (!content.is_array())
    refuse(where + ": expected a string or an array of parts, found " + quoted(content));
  std::vector<RequestPart> parts;
  for (const Json& part : content)
    parts.push_back(read_part(part, folder, where + "[" + std::to_string(parts.size()) + "]"));
  return parts;
}

RequestMessage read_message(const Json& entry, const std::string& folder,
                            const std::string& where) {
  const Json* role = entry.is_object() ? find(entry, "role") : nullptr;
  const Json* content = entry.is_object() ? find(entry, "content") : nullptr;
  if (entry.is_object()) check_message(entry, where);
  if (role == nullptr || !role->is_string() || content == nullptr)
    refuse(where + ": expected an object with role and content, found " + quoted(entry));
  const std::string name = *role == "developer" ? "system" : role->get<std::string>();
  if (name != "system" && name != "user" && name != "assistant" && name != "model")
    refuse(where + ".role: expected system, user or assistant, found " + quoted(*role));
  return {name, read_content(*content, folder, where + ".content")};
}

void read_messages(const Json& list, const std::string& folder,
                   std::vector<RequestMessage>& messages) {
  if (!list.is_array() || list.empty())
    refuse("messages: expected an array of at least one message, found " + quoted(list));
  for (const Json& entry : list) {
    messages.push_back(
        read_message(entry, folder, "messages[" + std::to_string(messages.size()) + "]"));
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

// `system` is a message in front of the others, or of the prompt as a user's; an empty one is none.
void put_system(const Json& body, BatchRequest& request) {
  const Json* system = find(body, "system");
  if (system == nullptr) return;
  if (!system->is_string()) refuse("system: expected a string, found " + quoted(*system));
  if (system->get_ref<const std::string&>().empty()) return;
  if (!request.messages.empty() && request.messages.front().role == "system")
    refuse("system: the messages have a system message too");
  if (request.messages.empty()) {
    if (request.raw) refuse("system: a prompt that is completed as it is has no place for it");
    request.messages.push_back({"user", std::move(request.prompt)});
    request.prompt.clear();
  }
  request.messages.insert(request.messages.begin(), {"system", {{system->get<std::string>()}}});
}

void read_prompt(const Json& body, const std::string& folder, BatchRequest& request) {
  const Json* prompt = find(body, "prompt");
  const Json* messages = find(body, "messages");
  if ((prompt == nullptr) == (messages == nullptr)) refuse("expected either prompt or messages");
  std::vector<RequestPart> images = read_images(body, folder);
  if (messages != nullptr) {
    read_messages(*messages, folder, request.messages);
    put_images(images, request.messages);
    return put_system(body, request);
  }
  if (!prompt->is_string()) refuse("prompt: expected a string, found " + quoted(*prompt));
  const std::string text = prompt->get<std::string>();
  if (text.empty() && images.empty()) refuse("prompt: expected text, found an empty string");
  request.prompt = std::move(images);
  request.prompt.push_back({text});
  put_system(body, request);
}

// /v1/chat/completions takes messages, /v1/completions a prompt.
void check_url(const Json& line, bool chat) {
  const Json* url = find(line, "url");
  if (url == nullptr) return;
  const bool chat_url = url->get_ref<const std::string&>().ends_with("/chat/completions");
  if (chat_url == chat) return;
  refuse(std::string("url: expected ") + (chat ? "/v1/chat/completions" : "/v1/completions") +
         " for a body with " + (chat ? "messages" : "a prompt") + ", found " + quoted(*url));
}

void read_openai(const Json& line, const std::string& folder, BatchRequest& request) {
  const Json* body = find(line, "body");
  if (body == nullptr || !body->is_object()) {
    refuse("body: expected an object, as a line with custom_id is in OpenAI's format, found " +
           (body == nullptr ? "none" : quoted(*body)));
  }
  request.openai_chat = find(*body, "messages") != nullptr;
  request.raw = !request.openai_chat;
  if (!request.id.is_string()) refuse("custom_id: expected a string, found " + quoted(request.id));
  check_openai_line(line);
  check_openai_body(*body);
  check_url(line, request.openai_chat);
  read_sampling(*body, request.sampling);
  request.answers = read_answers(*body);
  read_scoring(*body, request);
  read_prompt(*body, folder, request);
}

// Null where there is none. An id stands in the answer as it was written, so it is a short text or
// a number that can be.
Json read_id(const Json& line) {
  const char* key = find(line, "custom_id") != nullptr ? "custom_id" : "id";
  const Json* id = find(line, key);
  if (id == nullptr) return nullptr;
  const bool inexact = id->is_number_float() && std::abs(id->get<double>()) >= kExactDouble;
  if (!id->is_string() && (!id->is_number() || inexact))
    refuse(std::string(key) + ": expected a string or a number of at most 15 digits, found " +
           quoted(*id));
  if (const std::size_t size = to_line(*id).size(); size > kMostIdBytes)
    refuse(std::string(key) + ": expected at most " + std::to_string(kMostIdBytes) +
           " bytes, found " + std::to_string(size));
  return *id;
}

}  // namespace

void parse_request(const std::string& line, const SamplingFlags& defaults,
                   const std::string& folder, BatchRequest& request) {
  request.sampling = defaults;
  request.sampling.seed.reset();  // Of a whole batch, not of each of its lines.
  std::string wrong;
  Json object;
  const MemoryReserve reserve(json_reserve(line));
  object = parse_json(line, wrong);
  if (object.is_discarded()) throw RequestError{"invalid_json", "the line is " + wrong};
  if (!object.is_object())
    throw RequestError{"invalid_json",
                       "expected a JSON object, found " + std::string(object.type_name())};
  request.openai = find(object, "custom_id") != nullptr || find(object, "body") != nullptr;
  request.id = read_id(object);
  if (request.openai) return read_openai(object, folder, request);
  check_members(object);
  read_sampling(object, request.sampling);
  request.answers = read_answers(object);
  read_scoring(object, request);
  read_prompt(object, folder, request);
}

bool BatchRequest::has_pictures() const {
  const auto has = [](const std::vector<RequestPart>& parts) {
    return std::ranges::any_of(parts,
                               [](const RequestPart& part) { return part.picture.has_value(); });
  };
  return has(prompt) || std::ranges::any_of(messages, [&](const RequestMessage& message) {
           return has(message.parts);
         });
}

namespace {

// The same however the folder was named: by another path, from another folder.
std::string name_under(const std::string& folder, const std::string& name) {
  namespace fs = std::filesystem;
  const fs::path file = fs::absolute(name).lexically_normal();
  const fs::path below =
      file.lexically_relative(fs::absolute(folder.empty() ? "." : folder).lexically_normal());
  return (below.empty() || *below.begin() == ".." ? file : below).string();
}

Json describe_parts(const std::vector<RequestPart>& parts, const std::string& folder) {
  Json list = Json::array();
  for (const RequestPart& part : parts) {
    if (!part.picture) {
      list.push_back(part.text);
      continue;
    }
    const std::vector<std::byte>& bytes = part.picture->bytes;
    const auto* data = reinterpret_cast<const char*>(bytes.data());
    list.push_back({{"picture", bytes.empty() ? name_under(folder, part.picture->name)
                                              : fingerprint({data, bytes.size()})}});
  }
  return list;
}

}  // namespace

std::string meaning(const BatchRequest& request, const std::string& folder) {
  Json all;
  all["raw"] = request.raw;
  all["prompt"] = describe_parts(request.prompt, folder);
  all["messages"] = Json::array();
  for (const RequestMessage& message : request.messages)
    all["messages"].push_back({message.role, describe_parts(message.parts, folder)});
  for (const Setting& setting : sampling_settings())
    all[setting.member] = setting.get(request.sampling);
  all["seed"] = request.sampling.seed ? Json(*request.sampling.seed) : Json(nullptr);
  all["stop"] = request.sampling.stop;
  if (request.answers > 1) all["n"] = request.answers;
  if (!request.choices.empty()) all["choices"] = request.choices;
  if (request.logprobs >= 0) all["logprobs"] = request.logprobs;
  if (request.echo) all["echo"] = true;
  return to_line(all);
}

}  // namespace cli
