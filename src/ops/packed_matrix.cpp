#include "ops/packed_matrix.h"

#include <algorithm>

#include "ops/tokens.h"

namespace lapidary {
namespace {

constexpr std::size_t kTaskBytes = 64 * 1024;

}  // namespace

void copy_row(const PackedMatrix& matrix, int row, float* out) {
  const auto panel = static_cast<std::size_t>(row / kernels::kPanelRows);
  kernels::unpack_row(matrix.packing, matrix.panels + panel * matrix.panel_bytes(),
                      row % kernels::kPanelRows, matrix.columns, out);
}

int panels_per_task(std::size_t panel_bytes, int tokens) {
  if (tokens > 8) return 2;
  return static_cast<int>(std::max<std::size_t>(1, kTaskBytes / panel_bytes));
}

void linear_panels(const kernels::Kernels& kernels, const LinearInput& input, int token_begin,
                   int tokens, const PackedMatrix& matrix, int begin, int end,
                   const Rows<float>& out, std::byte* scratch) {
  const kernels::MatmulArgs args{.panels = matrix.panels,
                                 .panel_bytes = matrix.panel_bytes(),
                                 .columns = matrix.columns,
                                 .panel_begin = begin,
                                 .panel_end = end,
                                 .input = &input.quantized,
                                 .dense_input = input.dense.data,
                                 .token_begin = token_begin,
                                 .tokens = tokens,
                                 .out = out.data,
                                 .out_stride = out.stride,
                                 .scratch = scratch};
  const auto index = static_cast<std::size_t>(matrix.packing);
  (input.quantized.in_16_bits() ? kernels.matmul16[index] : kernels.matmul[index])(args);
}

void linear(Worker& worker, const kernels::Kernels& kernels, const LinearInput& input, int tokens,
            std::span<const LinearJob> jobs, std::byte* scratch, FunctionRef<void(int)> each) {
  const auto tasks_of = [&](const PackedMatrix& matrix) {
    const int step = panels_per_task(matrix.panel_bytes(), tokens);
    return (matrix.panel_count() + step - 1) / step;
  };
  int total = 0;
  for (const LinearJob& job : jobs) total += tasks_of(*job.matrix);
  const auto run_task = [&](int task) {
    const LinearJob* job = jobs.data();
    for (; task >= tasks_of(*job->matrix); ++job) task -= tasks_of(*job->matrix);
    const PackedMatrix& matrix = *job->matrix;
    const int step = panels_per_task(matrix.panel_bytes(), tokens);
    const int begin = task * step;
    const int end = std::min(begin + step, matrix.panel_count());
    const Rows<float> out{job->out.data + begin * kernels::kPanelRows, job->out.stride};
    linear_panels(kernels, input, 0, tokens, matrix, begin, end, out, scratch);
  };
  for_tokens_after(
      worker, tokens, [&](FunctionRef<void()> then) { worker.for_each(total, run_task, then); },
      each);
}

}  // namespace lapidary
