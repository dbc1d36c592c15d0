#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "batch_request.h"

namespace cli {

struct BatchAnswer {
  std::string text;
  lapidary::FinishReason finish_reason = lapidary::FinishReason::kStop;
  int prompt_tokens = 0;
  int cached_tokens = 0;
  int completion_tokens = 0;
  std::uint64_t seed = 0;
};

/// The line to write, in the request's format and with its newline. `digest` tells a later run what
/// was answered: OpenAI's format has it as `system_fingerprint`, and behind errors in these.
std::string answer_line(const BatchRequest& request, const BatchAnswer& answer,
                        const std::string& model, const std::string& digest);
std::string error_line(const BatchRequest& request, const RequestError& error,
                       const std::string& digest);

/// What a line of answers says of the request that it answers.
struct AnswerRecord {
  Json id;
  bool failed = false;
  std::string digest;                 ///< Empty: written by a version that had none.
  std::optional<std::uint64_t> seed;  ///< That was used.
};

/// Nothing when `line` is none that a batch writes.
std::optional<AnswerRecord> read_answer(std::string_view line);

/// Whether `text`, the end of a file without a newline, is how a line of answers may begin: what a
/// kill leaves behind.
bool begins_answer(std::string_view text);

}  // namespace cli
