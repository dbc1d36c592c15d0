#pragma once

#include <string>

#include "declared.h"

namespace cli {

/// The manual page lapidary(1) in roff.
std::string manual_page(const CommandLine& line);

}  // namespace cli
