#include "request_scores.h"

#include <cmath>
#include <string>

namespace cli {

namespace {

[[noreturn]] void refuse(const std::string& message) {
  throw RequestError{"invalid_request", message};
}

const Json* find(const Json& body, const char* key) {
  const auto found = body.find(key);
  return found == body.end() || found->is_null() ? nullptr : &*found;
}

int count_of(const Json& value, const char* key) {
  const double got = value.is_number() ? value.get<double>() : -1;
  if (got != std::floor(got) || got < 0 || got > lapidary::kMostLogprobs) {
    refuse(std::string(key) + ": expected a whole number from 0 to " +
           std::to_string(lapidary::kMostLogprobs) + ", found " + quoted(value));
  }
  return static_cast<int>(got);
}

bool flag_of(const Json& value, const char* key) {
  if (!value.is_boolean())
    refuse(std::string(key) + ": expected true or false, found " + quoted(value));
  return value.get<bool>();
}

// Of a chat, whether and how many; elsewhere one number says both, and false is none.
void read_logprobs(const Json& body, BatchRequest& request) {
  const Json* logprobs = find(body, "logprobs");
  const Json* top = find(body, "top_logprobs");
  if (!request.openai_chat) {
    if (logprobs != nullptr && *logprobs != Json(false))
      request.logprobs = count_of(*logprobs, "logprobs");
    if (top != nullptr && *top != Json(0)) {
      throw RequestError{"unsupported",
                         "top_logprobs: is of /v1/chat/completions; expected logprobs with a "
                         "number, found " +
                             quoted(*top)};
    }
    return;
  }
  const bool wanted = logprobs != nullptr && flag_of(*logprobs, "logprobs");
  const int count = top == nullptr ? 0 : count_of(*top, "top_logprobs");
  if (!wanted && count > 0)
    refuse("top_logprobs: expected \"logprobs\": true beside it, found " +
           (logprobs == nullptr ? "none" : quoted(*logprobs)));
  if (wanted) request.logprobs = count;
}

void read_echo(const Json& body, BatchRequest& request) {
  const Json* echo = find(body, "echo");
  if (echo == nullptr) return;
  request.echo = flag_of(*echo, "echo");
  if (request.echo && find(body, "messages") != nullptr)
    throw RequestError{"unsupported", "echo: not supported with messages; expected false or none"};
}

void read_choices(const Json& body, BatchRequest& request) {
  const Json* choices = find(body, "choices");
  if (choices == nullptr) return;
  if (request.openai) {
    throw RequestError{"unsupported",
                       "choices: is no member of OpenAI's format; expected it beside prompt or "
                       "messages, in a line without custom_id"};
  }
  const auto most = static_cast<std::size_t>(lapidary::kMostContinuations);
  if (!choices->is_array() || choices->empty() || choices->size() > most) {
    const bool many = choices->is_array() && !choices->empty();
    refuse("choices: expected an array of 1 to " + std::to_string(most) + " texts, found " +
           (many ? std::to_string(choices->size()) : quoted(*choices)));
  }
  for (const Json& text : *choices) {
    const std::string where = "choices[" + std::to_string(request.choices.size()) + "]";
    if (!text.is_string()) refuse(where + ": expected a text, found " + quoted(text));
    if (text.get_ref<const std::string&>().empty())
      refuse(where + ": expected text, found an empty string");
    request.choices.push_back(text.get<std::string>());
  }
}

}  // namespace

void read_scoring(const Json& body, BatchRequest& request) {
  read_logprobs(body, request);
  read_echo(body, request);
  read_choices(body, request);
  if (request.choices.empty()) return;
  for (const char* key : {"n", "max_tokens", "stop", "logprobs", "echo"}) {
    const Json* found = find(body, key);
    if (found == nullptr || *found == Json(false) || (*found == Json(1) && key[0] == 'n')) continue;
    refuse(std::string("choices and ") + key +
           ": a request is scored or answered, not both; give one of them");
  }
}

}  // namespace cli
