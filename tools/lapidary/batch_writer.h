#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "batch_plan.h"

namespace cli {

/// Writes answers to a plan's file: as they come, or in the order of the requests, where an answer
/// waits for those in front of it.
class BatchWriter {
 public:
  /// `next` is the first place that has no answer yet.
  BatchWriter(BatchPlan& plan, bool as_done, std::uint64_t next);

  /// Takes the line of `place` and writes what can be written. Throws as AnswerFile::write().
  void take(std::uint64_t place, std::string line);

  std::uint64_t held_bytes() const { return held_bytes_; }  ///< Of lines that wait.

 private:
  BatchPlan& plan_;
  bool as_done_;
  std::uint64_t next_;
  std::map<std::uint64_t, std::string> held_;
  std::uint64_t held_bytes_ = 0;
};

}  // namespace cli
