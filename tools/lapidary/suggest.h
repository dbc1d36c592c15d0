#pragma once

#include <span>
#include <string>
#include <string_view>

namespace cli {

/// The one of `names` that `word` is most likely a slip of: a third of its letters wrong at most,
/// and one always allowed, case and '-' against '_' apart; else the first that begins with it or
/// that it begins with ("stop_sequences" and "stop"). Empty when none is that near.
std::string nearest(std::string_view word, std::span<const std::string> names);

}  // namespace cli
