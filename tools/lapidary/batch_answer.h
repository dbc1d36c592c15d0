#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "batch_request.h"

namespace cli {

/// One of the texts drawn for a request.
struct BatchChoice {
  std::string text;
  lapidary::FinishReason finish_reason = lapidary::FinishReason::kStop;
  Json logprobs = nullptr;  ///< As the request's format has them; null: none were asked for.
};

struct BatchAnswer {
  std::vector<BatchChoice> choices;     ///< As many as the request wants, at least one; or
  std::vector<lapidary::Score> scores;  ///< of its choices.
  std::uint64_t prompt_tokens = 0;      ///< Computed once for all of them.
  std::uint64_t cached_tokens = 0;
  std::uint64_t completion_tokens = 0;  ///< Of all together.
  std::uint64_t seed = 0;               ///< Of the first; those behind it have the next ones.
  std::optional<std::uint64_t> batch_seed = {};  ///< What place 0 has; to be told where the lines
                                                 ///< stand in another order than the requests.
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
  std::string digest;                      ///< Empty: written by a version that had none.
  std::optional<std::uint64_t> seed = {};  ///< That was used.
  std::optional<std::uint64_t> batch_seed = {};
};

/// Nothing when `line` is none that a batch writes.
std::optional<AnswerRecord> read_answer(std::string_view line);

/// Whether `text`, the end of a file without a newline, is how a line of answers may begin: what a
/// kill leaves behind.
bool begins_answer(std::string_view text);

}  // namespace cli
