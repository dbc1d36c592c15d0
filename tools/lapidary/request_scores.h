#pragma once

#include "batch_request.h"

namespace cli {

/// Reads what a request wants to know of probabilities: `choices`, `logprobs`, `top_logprobs` and
/// `echo`, of `body` in the format that `request` says. Throws RequestError, also for what goes
/// with none of them.
void read_scoring(const Json& body, BatchRequest& request);

}  // namespace cli
