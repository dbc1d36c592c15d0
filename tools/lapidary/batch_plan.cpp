#include "batch_plan.h"

#include <filesystem>
#include <utility>

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;

Next BatchPlan::read(BatchLine& line) {
  const Next got = requests_.poll(text_);
  if (got == Next::kLine)
    line = {place_++, requests_.read() - std::exchange(read_, requests_.read()), {}};
  return got;
}

bool is_file(const std::string& path) {
  std::error_code none;
  return path != "-" && std::filesystem::is_regular_file(path, none);
}

void refuse_line(const BatchOptions& options, int number, const std::string& what) {
  const std::string file = options.in == "-" ? "standard input" : options.in;
  throw Error(ErrorCode::kUsage, file + " line " + std::to_string(number) + " " + what);
}

void refuse_changed(const BatchOptions& options, const BatchItem& item, bool failed,
                    const std::string& there) {
  refuse_line(options, item.request.line,
              failed ? "has changed since it was answered by an error in " + there +
                           "; --retry-failed answers such lines again"
                     : "is not what " + there +
                           " answers: the request, an option or the model has changed; go on with "
                           "what it was begun with, or use another file for the answers");
}

void check_seed(const BatchOptions& options, const BatchStanding& standing,
                const AnswerFile& answers) {
  const std::optional<std::uint64_t>& wanted = options.sampling.seed;
  if (!standing.seed || !wanted || *standing.seed == *wanted) return;
  throw Error(ErrorCode::kUsage, answers.path() + " was begun with --seed " +
                                     std::to_string(*standing.seed) +
                                     "; go on with that, or use another file for the answers");
}

}  // namespace cli
