#include "lapidary/machine.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <numeric>
#include <string>

#include "base/boundary.h"
#include "base/memory.h"
#include "base/printable.h"
#include "base/team.h"
#include "lapidary/error.h"
#include "runtime/model_impl.h"

namespace lapidary {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kStreamBytes{kMeasureMachineBytes};  // Far beyond any cache.
constexpr std::size_t kMinStreamBytes = std::size_t{64} << 20;
constexpr std::size_t kTaskBytes = std::size_t{4} << 20;
constexpr int kRounds = 3;
constexpr double kPeakSeconds = 0.1;  // A round of the int8 loop lasts at least this long.

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Independent sums, so that the loop waits for memory and for nothing else.
std::uint64_t sum_words(const std::uint64_t* words, std::size_t count) {
  constexpr std::size_t kSums = 16;
  std::uint64_t sums[kSums] = {};
  for (std::size_t i = 0; i + kSums <= count; i += kSums) {
    for (std::size_t j = 0; j < kSums; ++j) sums[j] += words[i + j];
  }
  return std::accumulate(sums, sums + kSums, std::uint64_t{0});
}

double measure_reads(Team& team) {
  const std::size_t affordable =
      static_cast<std::size_t>(available_memory() / 4) / kTaskBytes * kTaskBytes;
  const HugeBuffer buffer(std::clamp(affordable, kMinStreamBytes, kStreamBytes));
  const int tasks = static_cast<int>(buffer.size() / kTaskBytes);
  std::atomic<std::uint64_t> sink{0};  // Keeps the sums alive.
  auto fill = [&](Worker& worker) {
    worker.for_each(tasks, [&](int task) {
      std::byte* begin = buffer.data() + static_cast<std::size_t>(task) * kTaskBytes;
      std::fill_n(begin, kTaskBytes, std::byte{1});
    });
  };
  auto read = [&](Worker& worker) {
    worker.for_each(tasks, [&](int task) {
      const std::byte* begin = buffer.data() + static_cast<std::size_t>(task) * kTaskBytes;
      sink += sum_words(reinterpret_cast<const std::uint64_t*>(begin),
                        kTaskBytes / sizeof(std::uint64_t));
    });
  };
  team.run(fill);
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    const Clock::time_point start = Clock::now();
    team.run(read);
    best = std::max(
        best, static_cast<double>(tasks) * static_cast<double>(kTaskBytes) / seconds_since(start));
  }
  return best / 1e9;
}

double measure_int8(Team& team, const kernels::Kernels& kernels) {
  std::atomic<std::uint64_t> operations{0};
  std::uint64_t iterations = 100'000;
  auto body = [&](Worker&) { operations += kernels.int8_peak(iterations); };
  double best = 0;
  for (int round = 0; round < kRounds;) {
    operations = 0;
    const Clock::time_point start = Clock::now();
    team.run(body);
    const double seconds = seconds_since(start);
    if (seconds < kPeakSeconds && iterations < (std::uint64_t{1} << 40)) {
      iterations *= 4;
      continue;
    }
    best = std::max(best, static_cast<double>(operations) / seconds);
    ++round;
  }
  return best / 1e9;
}

}  // namespace

const kernels::Kernels& select_kernels(const std::string& isa) {
  std::string wanted = isa;
  if (wanted.empty()) {
    const char* forced = std::getenv("LAPIDARY_ISA");
    if (forced != nullptr) wanted = forced;
  }
  if (wanted.empty()) return *kernels::best();
  if (const kernels::Kernels* found = kernels::find(wanted.c_str())) return *found;
  std::string names;
  for (const kernels::Kernels* table : kernels::available()) {
    if (!names.empty()) names += ", ";
    names += table->name;
  }
  throw Error(ErrorCode::kUsage, "instruction set \"" + printable_value(wanted) +
                                     "\" is not one that this machine has: " + names);
}

MachineLimits measure_machine(int threads, const std::string& isa) {
  return at_boundary([&]() -> MachineLimits {
    const kernels::Kernels& kernels = select_kernels(isa);
    Team team(threads);
    return {measure_reads(team), measure_int8(team, kernels)};
  });
}

}  // namespace lapidary
