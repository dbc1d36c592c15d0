#include "batch_request.h"

#include <cmath>
#include <ctime>
#include <limits>

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

double number(const Json& value, const std::string& key, double low, double high, bool whole) {
  const double got = value.is_number() ? value.get<double>() : std::nan("");
  if (!(got >= low && got <= high) || (whole && got != std::floor(got))) {
    refuse(key + ": expected " + (whole ? "an integer" : "a number") + " from " +
           format("%g to %g", low, high) + ", found " + to_line(value));
  }
  return got;
}

template <class T>
void read_number(const Json& object, const char* key, double low, double high, T& value) {
  if (const Json* found = find(object, key)) {
    value = static_cast<T>(number(*found, key, low, high, std::is_integral_v<T>));
  }
}

void read_seed(const Json& object, std::uint64_t& seed) {
  const Json* found = find(object, "seed");
  if (found == nullptr) return;
  if (!found->is_number_integer()) refuse("seed: expected an integer, found " + to_line(*found));
  seed = found->is_number_unsigned() ? found->get<std::uint64_t>()
                                     : static_cast<std::uint64_t>(found->get<std::int64_t>());
}

void read_stop(const Json& object, std::vector<std::string>& stop) {
  const Json* found = find(object, "stop");
  if (found == nullptr) return;
  stop.clear();
  const Json list = found->is_array() ? *found : Json::array({*found});
  for (const Json& text : list) {
    if (!text.is_string())
      refuse("stop: expected a string or an array of strings, found " + to_line(*found));
    if (!text.get_ref<const std::string&>().empty()) stop.push_back(text.get<std::string>());
  }
}

void read_sampling(const Json& object, SamplingFlags& sampling) {
  constexpr double kMax = std::numeric_limits<int>::max();
  read_number(object, "max_tokens", 0, kMax, sampling.max_tokens);
  read_number(object, "max_completion_tokens", 0, kMax, sampling.max_tokens);
  read_number(object, "temperature", 0, 1000, sampling.sampling.temperature);
  read_number(object, "top_k", 0, kMax, sampling.sampling.top_k);
  read_number(object, "top_p", 0, 1, sampling.sampling.top_p);
  read_number(object, "min_p", 0, 1, sampling.sampling.min_p);
  read_number(object, "repeat_penalty", 0.001, 1000, sampling.sampling.repeat_penalty);
  read_seed(object, sampling.sampling.seed);
  read_stop(object, sampling.stop);
}

// Text, or OpenAI's array of parts of which each is text.
std::string content_text(const Json& content) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array())
    refuse("content: expected a string or an array of parts, found " + to_line(content));
  std::string text;
  for (const Json& part : content) {
    const Json* type = part.is_object() ? find(part, "type") : nullptr;
    const Json* words = part.is_object() ? find(part, "text") : nullptr;
    if (type == nullptr || *type != "text" || words == nullptr || !words->is_string()) {
      refuse("content: expected parts of type text, found " + to_line(part));
    }
    text += words->get_ref<const std::string&>();
  }
  return text;
}

void read_messages(const Json& list, std::vector<lapidary::Message>& messages) {
  if (!list.is_array() || list.empty())
    refuse("messages: expected an array of at least one message");
  for (const Json& entry : list) {
    const Json* role = entry.is_object() ? find(entry, "role") : nullptr;
    const Json* content = entry.is_object() ? find(entry, "content") : nullptr;
    if (role == nullptr || !role->is_string() || content == nullptr) {
      refuse("messages: expected objects with role and content, found " + to_line(entry));
    }
    const std::string name = *role == "developer" ? "system" : role->get<std::string>();
    messages.push_back({name, content_text(*content)});
  }
}

void read_prompt(const Json& body, BatchRequest& request) {
  const Json* prompt = find(body, "prompt");
  const Json* messages = find(body, "messages");
  if ((prompt == nullptr) == (messages == nullptr)) refuse("expected either prompt or messages");
  if (const Json* images = find(body, "images"); images != nullptr && !images->empty()) {
    throw RequestError{"unsupported", "images: pictures cannot be read yet"};
  }
  if (messages != nullptr) return read_messages(*messages, request.messages);
  if (!prompt->is_string()) refuse("prompt: expected a string, found " + to_line(*prompt));
  request.text = prompt->get<std::string>();
  if (request.text.empty()) refuse("prompt: expected text, found an empty string");
}

void read_openai(const Json& line, BatchRequest& request) {
  const Json* body = find(line, "body");
  if (body == nullptr || !body->is_object()) refuse("body: expected an object");
  request.openai_chat = body->contains("messages");
  request.raw = !request.openai_chat;
  double ignored = 1;
  read_number(*body, "n", 1, 1, ignored);
  read_sampling(*body, request.sampling);
  read_prompt(*body, request);
}

}  // namespace

Json line_id(const Json& line) {
  if (!line.is_object()) return nullptr;
  if (line.contains("custom_id")) return line["custom_id"];
  return line.contains("id") ? line["id"] : Json(nullptr);
}

void parse_request(const std::string& line, const SamplingFlags& defaults, BatchRequest& request) {
  request.sampling = defaults;
  const Json object = Json::parse(line, nullptr, false);
  if (object.is_discarded()) throw RequestError{"invalid_json", "the line is not valid JSON"};
  if (!object.is_object())
    throw RequestError{"invalid_json",
                       "expected a JSON object, found " + std::string(object.type_name())};
  request.id = line_id(object);
  request.openai = object.contains("custom_id") || object.contains("body");
  if (request.openai) return read_openai(object, request);
  read_sampling(object, request.sampling);
  read_prompt(object, request);
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
