#pragma once

#include <cstddef>
#include <cstdint>

#include "terminal.h"

namespace cli {

/// How far a batch has come, all of it of this run.
struct BatchCount {
  std::uint64_t bytes = 0;      ///< Of the requests that are answered,
  std::uint64_t all_bytes = 0;  ///< and of all that are to be; 0: not known.
  std::size_t lines = 0;        ///< Answered.
  std::uint64_t tokens = 0;     ///< Drawn for them.
  std::uint64_t prompt = 0;     ///< Tokens of their prompts,
  std::uint64_t cached = 0;     ///< and of those, what was there already.
  std::uint64_t drafted = 0;    ///< Tokens that were guessed,
  std::uint64_t accepted = 0;   ///< and of those, right ones.
};

/// What has been done, for a person: a bar, or a line now and then where standard error is a file.
class BatchProgress {
 public:
  explicit BatchProgress(bool quiet);

  void computed(const BatchCount& count);  ///< After every pass.
  void answered(const BatchCount& count);  ///< After lines were written.
  void finish() { bar_.finish(); }

 private:
  ProgressBar bar_;
  bool lines_;
  double start_;
  double last_ = start_;
};

}  // namespace cli
