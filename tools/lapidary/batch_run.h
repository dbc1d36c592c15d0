#pragma once

#include <memory>
#include <string>

#include "answer_file.h"
#include "answerer.h"
#include "batch_plan.h"
#include "batch_progress.h"
#include "batch_window.h"
#include "batch_writer.h"
#include "request_file.h"

namespace cli {

/// A batch from the line where it stands to its end.
class BatchRun {
 public:
  /// All must outlive it. Throws Error(kUsage) when the answers that are there do not belong to the
  /// requests.
  BatchRun(const BatchOptions& options, const lapidary::Model& model, RequestFile& requests,
           AnswerFile& answers);

  /// The exit code. Throws Error(kInterrupted).
  int run();

 private:
  void fill();
  bool add(const BatchLine& line);
  void write(const BatchResult& result);
  void print_statistics(double seconds) const;

  const BatchOptions& options_;
  RequestFile& requests_;
  Answerer work_;
  std::unique_ptr<BatchPlan> plan_;
  std::uint64_t seed_;
  BatchWindow window_;
  BatchWriter writer_;
  BatchProgress progress_;
  BatchCount count_;
  std::size_t failed_;
  bool ended_ = false;  // All requests have been read.
};

}  // namespace cli
