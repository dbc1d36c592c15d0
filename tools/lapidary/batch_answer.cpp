#include "batch_answer.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include "logprob_json.h"
#include "memory_reserve.h"

namespace cli {

namespace {

constexpr std::string_view kFingerprint = "fp_";

// OpenAI gives every answer an id of its own; ours follows from the request's.
std::string answer_id(const char* prefix, const BatchRequest& request) {
  return prefix + (request.id.is_string() ? request.id.get<std::string>() : to_line(request.id));
}

Json usage_of(const BatchAnswer& answer) {
  return {{"prompt_tokens", answer.prompt_tokens}, {"completion_tokens", answer.completion_tokens}};
}

void put_seed(const BatchAnswer& answer, Json& usage) {
  usage["seed"] = answer.seed;
  if (answer.batch_seed) usage["batch_seed"] = *answer.batch_seed;
}

Json openai_choices(const BatchRequest& request, const BatchAnswer& answer) {
  Json choices = Json::array();
  for (const BatchChoice& drawn : answer.choices) {
    Json choice;
    choice["index"] = choices.size();
    if (request.openai_chat) {
      choice["message"] = {{"role", "assistant"}, {"content", drawn.text}};
    } else {
      choice["text"] = drawn.text;
    }
    const bool chat = request.openai_chat && !drawn.logprobs.is_null();
    choice["logprobs"] =
        chat ? Json{{"content", drawn.logprobs}, {"refusal", nullptr}} : drawn.logprobs;
    choice["finish_reason"] = finish_name(drawn.finish_reason);
    choices.push_back(std::move(choice));
  }
  return choices;
}

// Of our own format, where a request wants several.
Json answers_of(const BatchAnswer& answer) {
  Json answers = Json::array();
  for (const BatchChoice& drawn : answer.choices) {
    answers.push_back({{"text", drawn.text}, {"finish_reason", finish_name(drawn.finish_reason)}});
    if (!drawn.logprobs.is_null()) answers.back()["logprobs"] = drawn.logprobs;
  }
  return answers;
}

// What our own format says of the answer itself.
void put_answer(const BatchRequest& request, const BatchAnswer& answer, Json& line) {
  if (!request.choices.empty()) {
    line["choices"] = choices_json(request.choices, answer.scores);
    line["best"] = best_choice(answer.scores);
    return;
  }
  const BatchChoice& first = answer.choices.front();
  line["text"] = first.text;
  line["finish_reason"] = finish_name(first.finish_reason);
  if (!first.logprobs.is_null()) line["logprobs"] = first.logprobs;
  if (answer.choices.size() > 1) line["answers"] = answers_of(answer);
}

Json openai_body(const BatchRequest& request, const BatchAnswer& answer, const std::string& model,
                 const std::string& digest) {
  Json body;
  body["id"] = answer_id(request.openai_chat ? "chatcmpl-" : "cmpl-", request);
  body["object"] = request.openai_chat ? "chat.completion" : "text_completion";
  body["created"] = static_cast<std::int64_t>(std::time(nullptr));
  body["model"] = model;
  body["system_fingerprint"] = std::string(kFingerprint) + digest;
  body["choices"] = openai_choices(request, answer);
  body["usage"] = usage_of(answer);
  body["usage"]["total_tokens"] = answer.prompt_tokens + answer.completion_tokens;
  body["usage"]["prompt_tokens_details"] = {{"cached_tokens", answer.cached_tokens}};
  put_seed(answer, body["usage"]);
  return body;
}

const Json* member(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

std::string text_member(const Json* object, const char* key) {
  const Json* found = object == nullptr ? nullptr : member(*object, key);
  return found != nullptr && found->is_string() ? found->get<std::string>() : "";
}

std::optional<std::uint64_t> seed_of(const Json* usage, const char* key) {
  const Json* seed = usage == nullptr ? nullptr : member(*usage, key);
  if (seed == nullptr || !seed->is_number_unsigned()) return {};
  return seed->get<std::uint64_t>();
}

// The error of a line, in either format; nullptr where there is none.
const Json* error_of(const Json& line) {
  const Json* error = member(line, "error");
  const bool is_one =
      error != nullptr && member(*error, "code") != nullptr && member(*error, "message") != nullptr;
  return is_one ? error : nullptr;
}

// The id of the request that `line` answers, in either format.
Json id_of(const Json& line) {
  const Json* custom = member(line, "custom_id");
  const Json* id = custom != nullptr ? custom : member(line, "id");
  return id == nullptr ? Json(nullptr) : *id;
}

// The end of the JSON value that `text` begins with; npos when it does not end there.
std::size_t end_of_value(std::string_view text) {
  return find_in_json(
      text, [](char c, int depth) { return depth == 0 && (c == ',' || c == ']' || c == '}'); });
}

}  // namespace

std::string answer_line(const BatchRequest& request, const BatchAnswer& answer,
                        const std::string& model, const std::string& digest) {
  Json line;
  if (request.openai) {
    line["id"] = answer_id("batch_req_", request);
    line["custom_id"] = request.id;
    line["response"] = {{"status_code", 200},
                        {"request_id", answer_id("req_", request)},
                        {"body", openai_body(request, answer, model, digest)}};
    line["error"] = nullptr;
    return to_line(line) + "\n";
  }
  line["id"] = request.id;
  put_answer(request, answer, line);
  line["usage"] = usage_of(answer);
  line["usage"]["cached_tokens"] = answer.cached_tokens;
  put_seed(answer, line["usage"]);
  line["digest"] = digest;
  return to_line(line) + "\n";
}

std::string error_line(const BatchRequest& request, const RequestError& error,
                       const std::string& digest) {
  Json line;
  if (request.openai) {
    line["id"] = answer_id("batch_req_", request);
    line["custom_id"] = request.id;
    line["response"] = nullptr;
  } else {
    line["id"] = request.id;
  }
  line["error"] = {
      {"code", error.code}, {"message", error.message}, {"line", request.line}, {"digest", digest}};
  return to_line(line) + "\n";
}

std::optional<AnswerRecord> read_answer(std::string_view text) {
  std::string wrong;
  Json line;
  const MemoryReserve reserve(json_reserve(text));
  line = parse_json(text, wrong);
  if (member(line, "id") == nullptr) return {};
  AnswerRecord record{id_of(line), false, ""};
  if (const Json* error = error_of(line)) {
    record.failed = true;
    record.digest = text_member(error, "digest");
    return record;
  }
  if (const Json* response = member(line, "response")) {
    const Json* body = member(*response, "body");
    if (body == nullptr || member(line, "custom_id") == nullptr) return {};
    record.digest = text_member(body, "system_fingerprint");
    record.digest.erase(0, std::min(kFingerprint.size(), record.digest.size()));
    record.seed = seed_of(member(*body, "usage"), "seed");
    record.batch_seed = seed_of(member(*body, "usage"), "batch_seed");
    return record;
  }
  const Json* usage = member(line, "usage");
  const bool drawn = member(line, "text") != nullptr && member(line, "finish_reason") != nullptr;
  const bool scored = member(line, "choices") != nullptr && member(line, "best") != nullptr;
  if ((!drawn && !scored) || usage == nullptr) return {};
  record.digest = text_member(&line, "digest");
  record.seed = seed_of(usage, "seed");
  record.batch_seed = seed_of(usage, "batch_seed");
  return record;
}

bool begins_answer(std::string_view text) {
  // Whole but for its newline: then it must be one.
  std::string wrong;
  if (parse_json(text, wrong).is_object()) return read_answer(text).has_value();
  const auto agree = [](std::string_view a, std::string_view b) {
    const std::size_t size = std::min(a.size(), b.size());
    return a.substr(0, size) == b.substr(0, size);
  };
  constexpr std::string_view kId = "{\"id\":";
  if (!agree(text, kId)) return false;
  if (text.size() <= kId.size()) return true;
  const std::string_view id = text.substr(kId.size());
  const std::size_t end = end_of_value(id);
  constexpr std::size_t kLongId = 4096;  // What is longer without an end is no id of a request.
  if (end == std::string_view::npos) return id.size() < kLongId;
  const std::string_view rest = id.substr(end);
  return agree(rest, ",\"text\":\"") || agree(rest, ",\"choices\":[") ||
         agree(rest, ",\"error\":{\"code\":\"") || agree(rest, ",\"custom_id\":");
}

}  // namespace cli
