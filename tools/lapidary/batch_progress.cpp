#include "batch_progress.h"

#include <unistd.h>

#include <cmath>
#include <string>

#include "text.h"

namespace cli {

BatchProgress::BatchProgress(bool quiet)
    : bar_("batch", quiet), lines_(!quiet && isatty(STDERR_FILENO) == 0), start_(now()) {}

void BatchProgress::computed(const BatchCount& count) {
  std::string detail = counted(count.lines, "line");
  if (count.tokens > 0)
    detail += format(", %.1f t/s", rate(static_cast<double>(count.tokens), now() - start_));
  bar_.update(count.bytes, count.all_bytes, detail);
}

void BatchProgress::answered(const BatchCount& count) {
  computed(count);
  constexpr double kSeconds = 10;
  if (!lines_ || now() - last_ < kSeconds) return;
  last_ = now();
  const auto total = static_cast<double>(count.all_bytes);
  const auto lines = static_cast<double>(count.lines);
  const double all = rate(lines * total, static_cast<double>(count.bytes));
  std::string text = "batch: ";
  if (total > 0) text += std::to_string(count.lines) + " of about ";
  text += counted(total > 0 ? static_cast<std::size_t>(std::llround(all)) : count.lines, "line");
  const double seconds = last_ - start_;
  text += format(" in %.0f s, %.2f a second", seconds, rate(lines, seconds));
  write_all(STDERR_FILENO, text + "\n");
}

}  // namespace cli
