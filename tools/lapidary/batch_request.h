#pragma once

#include <optional>
#include <string>
#include <vector>

#include "batch_images.h"
#include "json.h"
#include "sampling_flags.h"

namespace cli {

/// A line that cannot be answered: a code for programs and a message for people.
struct RequestError {
  std::string code;
  std::string message;
};

/// A piece of a message: a picture, or text.
struct RequestPart {
  std::string text;
  std::optional<PictureSource> picture = {};
};

struct RequestMessage {
  std::string role;
  std::vector<RequestPart> parts;
};

/// One line of a batch, in our format or OpenAI's.
struct BatchRequest {
  int line = 0;  ///< Its number in the file, from 1; set by whoever reads the file.
  bool openai = false;
  bool openai_chat = false;  ///< /v1/chat/completions, else /v1/completions.
  Json id;                   ///< `id` or `custom_id`: null, a string or a number.
  bool raw = false;          ///< `prompt` is completed as it is, whatever the model was made for.
  std::vector<RequestPart> prompt;  ///< Pictures and `prompt`; empty when there are messages.
  std::vector<RequestMessage> messages;
  SamplingFlags sampling;
  int answers = 1;                   ///< `n`, 1 to 128.
  std::vector<std::string> choices;  ///< To be scored instead; none: answers are drawn.
  int logprobs = -1;  ///< Of each token, with so many of the most probable, 0 to 20; -1: none.
  bool echo = false;  ///< The prompt in front of the answer.

  bool has_pictures() const;
};

/// The request of `line`, where a field left out takes its value from `defaults` (a seed left out
/// stays so) and the names of pictures are relative to `folder`. `request.openai` and `request.id`
/// are set as soon as they are known, so that the answer to a bad line can have them. Throws
/// RequestError.
void parse_request(const std::string& line, const SamplingFlags& defaults,
                   const std::string& folder, BatchRequest& request);

/// What makes up the answer to `request`, as text: its prompt or messages, where its pictures are,
/// and how tokens are drawn. Two requests with the same text have the same answer from the same
/// model, where neither or both have a seed. Where `folder` itself lies does not matter.
std::string meaning(const BatchRequest& request, const std::string& folder);

}  // namespace cli
