#pragma once

#include "lapidary/error.h"
#include "options.h"

namespace cli {

int exit_code(lapidary::ErrorCode code);

void add_generate(CLI::App& app, Run& run);
void add_chat(CLI::App& app, Run& run);
void add_batch(CLI::App& app, Run& run);
void add_tokenize(CLI::App& app, Run& run);
void add_logits(CLI::App& app, Run& run);
void add_perplexity(CLI::App& app, Run& run);
void add_inspect(CLI::App& app, Run& run);
void add_bench(CLI::App& app, Run& run);
void add_encode_image(CLI::App& app, Run& run);

}  // namespace cli
