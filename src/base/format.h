#pragma once

// Messages from patterns: format("expected {} bytes, found {}", …). The library is compiled into
// each source that asks for it, so that nothing has to be linked or installed with Lapidary.

#define FMT_HEADER_ONLY 1
#include <fmt/format.h>

namespace lapidary {

using fmt::format;

}  // namespace lapidary
