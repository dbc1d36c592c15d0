#pragma once

#include "kernels/kernels.h"
#include "model/config.h"
#include "model/page_table.h"

namespace lapidary {

/// Keys and values of positions [begin, end), at most a pass, that nothing was computed for: random
/// numbers. Local layers have those from `seen` on alone.
void make_up(PageTable& table, const Config& config, const kernels::Kernels& kernels, int begin,
             int end, int seen);

}  // namespace lapidary
