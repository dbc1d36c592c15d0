#pragma once

#include <string>

#include "json.h"

namespace cli {

/// Refuses, with a RequestError that names it, every member of a request that would change the
/// answer and is not supported, and every one that is not known, with the name that was probably
/// meant. Members that change nothing pass, and so do those that ask for what is done anyway
/// (`"best_of": 1`, `"stream": false`). A member that is null counts as absent.
void check_members(const Json& request);   ///< Of our own format.
void check_openai_line(const Json& line);  ///< custom_id, method, url, body.
void check_openai_body(const Json& body);  ///< As check_members, without an id.
/// `where` stands in front of the name: "messages[1]".
void check_message(const Json& message, const std::string& where);
/// A part of a message's content; `type` is "text", "image" or "image_url".
void check_part(const Json& part, const std::string& type, const std::string& where);

/// The member that is meant by `key`: itself, or what another engine calls so ("repetition_penalty"
/// is "repeat_penalty").
std::string canonical_member(const std::string& key);

}  // namespace cli
