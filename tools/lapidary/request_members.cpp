#include "request_members.h"

#include <algorithm>
#include <span>
#include <string_view>
#include <vector>

#include "batch_request.h"
#include "suggest.h"

namespace cli {

namespace {

// What a member is to us.
enum class Kind {
  kRead,      // It is used.
  kHarmless,  // It changes no answer.
  kNeutral,   // It is supported for a value that asks for nothing.
};

struct Member {
  std::string_view name;
  Kind kind;
  bool (*neutral)(const Json& value) = nullptr;
  const char* expected = "";  // Empty: it is taken with no value at all.
};

bool is_false(const Json& value) { return value == false; }
bool is_zero(const Json& value) { return value.is_number() && value == 0; }
bool is_one(const Json& value) { return value.is_number() && value == 1; }
bool is_empty(const Json& value) {
  return (value.is_object() || value.is_array()) ? value.empty() : value == "";
}
bool is_nothing(const Json&) { return false; }
bool is_none(const Json& value) { return value == "none"; }
bool is_post(const Json& value) { return value == "POST"; }
// With whatever server in front. A chat's ends so too.
bool is_completions(const Json& value) {
  return value.is_string() && value.get_ref<const std::string&>().ends_with("/completions");
}
bool is_sampler_window(const Json& value) { return value.is_number() && value == 64; }
bool is_text_format(const Json& value) {
  return value.is_object() && value.size() == 1 && value.value("type", Json()) == "text";
}
bool is_no_tool(const Json& value) { return value == "none" || value == "auto"; }
bool is_text_only(const Json& value) { return value == Json::array({"text"}); }

constexpr Member kBody[] = {
    {"prompt", Kind::kRead},
    {"messages", Kind::kRead},
    {"images", Kind::kRead},
    {"system", Kind::kRead},
    {"seed", Kind::kRead},
    {"stop", Kind::kRead},
    {"n", Kind::kRead},
    {"choices", Kind::kRead},
    {"logprobs", Kind::kRead},
    {"top_logprobs", Kind::kRead},
    {"echo", Kind::kRead},
    {"max_tokens", Kind::kRead},
    {"max_completion_tokens", Kind::kRead},
    {"num_predict", Kind::kRead},
    {"n_predict", Kind::kRead},
    {"max_new_tokens", Kind::kRead},
    {"temperature", Kind::kRead},
    {"temp", Kind::kRead},
    {"top_k", Kind::kRead},
    {"top_p", Kind::kRead},
    {"min_p", Kind::kRead},
    {"repeat_penalty", Kind::kRead},
    {"repetition_penalty", Kind::kRead},
    {"model", Kind::kHarmless},
    {"user", Kind::kHarmless},
    {"store", Kind::kHarmless},
    {"metadata", Kind::kHarmless},
    {"service_tier", Kind::kHarmless},
    {"safety_identifier", Kind::kHarmless},
    {"prompt_cache_key", Kind::kHarmless},
    {"prompt_cache_retention", Kind::kHarmless},
    {"prediction", Kind::kHarmless},  // Makes an answer faster, never another one.
    {"cache_prompt", Kind::kHarmless},
    {"keep_alive", Kind::kHarmless},
    {"parallel_tool_calls", Kind::kHarmless},
    {"best_of", Kind::kNeutral, is_one, "1"},
    {"stream", Kind::kNeutral, is_false, "false"},
    {"stream_options", Kind::kNeutral, is_empty, "{}"},
    {"logit_bias", Kind::kNeutral, is_empty, "{}"},
    {"frequency_penalty", Kind::kNeutral, is_zero, "0"},
    {"presence_penalty", Kind::kNeutral, is_zero, "0"},
    {"response_format", Kind::kNeutral, is_text_format, "{\"type\": \"text\"}"},
    {"tools", Kind::kNeutral, is_empty, "[]"},
    {"tool_choice", Kind::kNeutral, is_no_tool, "\"none\""},
    {"functions", Kind::kNeutral, is_empty, "[]"},
    {"function_call", Kind::kNeutral, is_no_tool, "\"none\""},
    {"modalities", Kind::kNeutral, is_text_only, "[\"text\"]"},
    {"suffix", Kind::kNeutral, is_empty, "\"\""},
    {"audio", Kind::kNeutral, is_nothing},
    {"reasoning_effort", Kind::kNeutral, is_none, "\"none\""},
    {"verbosity", Kind::kNeutral, is_nothing},
    {"web_search_options", Kind::kNeutral, is_nothing},
    // Of other engines.
    {"min_tokens", Kind::kNeutral, is_zero, "0"},
    {"ignore_eos", Kind::kNeutral, is_false, "false"},
    {"stop_token_ids", Kind::kNeutral, is_empty, "[]"},
    {"typical_p", Kind::kNeutral, is_one, "1"},
    {"mirostat", Kind::kNeutral, is_zero, "0"},
    {"repeat_last_n", Kind::kNeutral, is_sampler_window, "64"},
    {"grammar", Kind::kNeutral, is_empty, "\"\""},
    {"json_schema", Kind::kNeutral, is_empty, "{}"},
    {"format", Kind::kNeutral, is_empty, "\"\""},
    {"options", Kind::kNeutral, is_empty, "{}"},
};
constexpr Member kLine[] = {
    {"custom_id", Kind::kRead},
    {"body", Kind::kRead},
    {"method", Kind::kNeutral, is_post, "\"POST\""},
    {"url", Kind::kNeutral, is_completions, "/v1/chat/completions or /v1/completions"},
};
constexpr Member kMessage[] = {
    {"role", Kind::kRead},
    {"content", Kind::kRead},
    {"name", Kind::kHarmless},
    // As an answer of OpenAI's has them, put back into a conversation.
    {"refusal", Kind::kNeutral, is_nothing},
    {"annotations", Kind::kNeutral, is_empty, "[]"},
    {"audio", Kind::kNeutral, is_nothing},
    {"tool_calls", Kind::kNeutral, is_empty, "[]"},
    {"tool_call_id", Kind::kNeutral, is_nothing},
    {"function_call", Kind::kNeutral, is_nothing},
    {"reasoning_content", Kind::kNeutral, is_empty, "\"\""},
};
constexpr Member kTextPart[] = {{"type", Kind::kRead}, {"text", Kind::kRead}};
constexpr Member kImageUrlPart[] = {{"type", Kind::kRead}, {"image_url", Kind::kRead}};
// How finely a picture is seen is an option of the whole batch.
constexpr Member kImageUrl[] = {{"url", Kind::kRead}, {"detail", Kind::kHarmless}};
constexpr Member kImagePart[] = {
    {"type", Kind::kRead}, {"path", Kind::kRead}, {"url", Kind::kRead}, {"image", Kind::kRead}};

[[noreturn]] void refuse_unknown(const std::string& key, const std::string& where,
                                 std::span<const Member> members) {
  std::vector<std::string> names;
  for (const Member& member : members) names.emplace_back(member.name);
  const bool has_metadata = std::ranges::find(names, "metadata") != names.end();
  const std::string near = nearest(key, names);
  std::string message = where + shortened(key) + ": not a member of a request";
  if (!near.empty()) {
    message += "; did you mean " + near + "?";
  } else if (has_metadata) {
    message += "; what is your own may stand in metadata";
  }
  throw RequestError{"invalid_request", message};
}

void check(const Json& object, const std::string& where, std::span<const Member> members,
           std::string_view also) {
  for (const auto& [key, value] : object.items()) {
    if (value.is_null() || (!also.empty() && key == also)) continue;
    const auto member = std::ranges::find(members, std::string_view(key), &Member::name);
    if (member == members.end()) refuse_unknown(key, where, members);
    if (member->kind != Kind::kNeutral || member->neutral(value)) continue;
    const std::string expected(member->expected);
    throw RequestError{"unsupported", where + key + ": not supported; expected " +
                                          (expected.empty() ? "none" : expected + " or none") +
                                          ", found " + quoted(value)};
  }
}

}  // namespace

void check_members(const Json& request) { check(request, "", kBody, "id"); }
void check_openai_line(const Json& line) { check(line, "", kLine, "id"); }
void check_openai_body(const Json& body) { check(body, "body.", kBody, ""); }
void check_message(const Json& message, const std::string& where) {
  check(message, where + ".", kMessage, "");
}

void check_part(const Json& part, const std::string& type, const std::string& where) {
  if (type == "text") return check(part, where + ".", kTextPart, "");
  if (type == "image") return check(part, where + ".", kImagePart, "");
  check(part, where + ".", kImageUrlPart, "");
  if (const auto address = part.find("image_url"); address != part.end() && address->is_object())
    check(*address, where + ".image_url.", kImageUrl, "");
}

std::string canonical_member(const std::string& key) {
  if (key == "max_completion_tokens" || key == "num_predict" || key == "n_predict" ||
      key == "max_new_tokens")
    return "max_tokens";
  if (key == "repetition_penalty") return "repeat_penalty";
  return key == "temp" ? "temperature" : key;
}

}  // namespace cli
