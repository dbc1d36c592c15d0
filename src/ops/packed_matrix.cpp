#include "ops/packed_matrix.h"

#include <algorithm>
#include <cstring>

namespace lapidary {
namespace {

constexpr std::size_t kTaskBytes = 64 * 1024;

}  // namespace

void copy_row(const PackedMatrix& matrix, int row, float* out) {
  const auto panel = static_cast<std::size_t>(row / kernels::kPanelRows);
  if (matrix.split()) {
    const kernels::SplitPanels planes = matrix.planes(row / kernels::kPanelRows);
    kernels::unpack_split_row(matrix.layout(), planes.top, planes.low, row % kernels::kPanelRows,
                              out);
    return;
  }
  kernels::unpack_row(matrix.packing, matrix.panels + panel * matrix.panel_bytes(),
                      row % kernels::kPanelRows, matrix.columns, out);
}

int panels_per_task(const PackedMatrix& matrix, int tokens) {
  if (tokens > 8) return 2;
  return static_cast<int>(std::max<std::size_t>(1, kTaskBytes / matrix.panel_bytes()));
}

void linear_panels(const kernels::Kernels& kernels, const LinearInput& input, int token_begin,
                   int tokens, const PackedMatrix& matrix, int begin, int end, float* out,
                   std::size_t out_stride, std::byte* scratch, bool wide) {
  const kernels::MatmulArgs args{.panels = matrix.panels,
                                 .panel_bytes = matrix.panel_bytes(),
                                 .columns = matrix.columns,
                                 .panel_begin = begin,
                                 .panel_end = end,
                                 .input = &input.quantized,
                                 .dense_input = input.dense,
                                 .token_begin = token_begin,
                                 .tokens = tokens,
                                 .out = out,
                                 .out_stride = out_stride,
                                 .scratch = scratch,
                                 .low = matrix.split() ? matrix.planes(0).low : nullptr};
  const auto index = static_cast<std::size_t>(matrix.packing);
  (wide ? kernels.matmul16[index] : kernels.matmul[index])(args);
}

void linear(Worker& worker, const kernels::Kernels& kernels, const LinearInput& input,
            int token_begin, int tokens, const LinearJob* jobs, int job_count, std::byte* scratch,
            bool wide, FunctionRef<void()> then) {
  int total = 0;
  for (int j = 0; j < job_count; ++j) {
    const int step = panels_per_task(*jobs[j].matrix, tokens);
    total += (jobs[j].matrix->panel_count() + step - 1) / step;
  }
  const auto run_task = [&](int task) {
    for (int j = 0; j < job_count; ++j) {
      const PackedMatrix& matrix = *jobs[j].matrix;
      const int step = panels_per_task(matrix, tokens);
      const int tasks = (matrix.panel_count() + step - 1) / step;
      if (task >= tasks) {
        task -= tasks;
        continue;
      }
      const int begin = task * step;
      const int end = std::min(begin + step, matrix.panel_count());
      linear_panels(kernels, input, token_begin, tokens, matrix, begin, end,
                    jobs[j].out + begin * kernels::kPanelRows, jobs[j].out_stride, scratch, wide);
      return;
    }
  };
  worker.for_each(total, run_task, then);
}

}  // namespace lapidary
