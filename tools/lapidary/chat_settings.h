#pragma once

#include <string>
#include <vector>

#include "sampling_flags.h"

namespace cli {

/// Does what `/set NAME VALUE` asks for, `argument` being NAME VALUE; returns what to tell: the new
/// value, or what was expected.
std::string change_setting(SamplingFlags& flags, const std::string& argument);

/// "NAME: VALUE" of everything that can be set.
std::vector<std::string> describe_settings(const SamplingFlags& flags);

}  // namespace cli
