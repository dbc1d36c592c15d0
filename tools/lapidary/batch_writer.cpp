#include "batch_writer.h"

#include <utility>

namespace cli {

BatchWriter::BatchWriter(BatchPlan& plan, bool as_done, std::uint64_t next)
    : plan_(plan), as_done_(as_done), next_(next) {}

void BatchWriter::take(std::uint64_t place, std::string line) {
  if (as_done_) return plan_.out().write(line);
  held_bytes_ += line.size();
  held_.emplace(place, std::move(line));
  for (auto first = held_.begin(); first != held_.end() && first->first == next_;
       first = held_.erase(first)) {
    plan_.out().write(first->second);
    held_bytes_ -= first->second.size();
    plan_.wrote(++next_);
  }
}

}  // namespace cli
