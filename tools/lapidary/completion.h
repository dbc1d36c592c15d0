#pragma once

#include <string>

#include "declared.h"

namespace cli {

/// A completion script for `shell`: "bash", "zsh" or "fish". It calls `lapidary completion models`
/// for the names that -m takes.
std::string completion_script(const CommandLine& line, const std::string& shell);

}  // namespace cli
