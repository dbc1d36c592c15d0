#include "shard.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "json.h"
#include "lapidary/error.h"
#include "text.h"

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;

namespace {

constexpr const char* kAuto = "auto";
constexpr const char* kSlurm = "SLURM_ARRAY_TASK_ID";
constexpr const char* kKubernetes = "JOB_COMPLETION_INDEX";
constexpr std::uint64_t kMostShards = 1'000'000'000;

// Digits alone: no sign, no blanks.
std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || rest != end || number > kMostShards) return {};
  return number;
}

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorCode::kUsage, "--shard auto: " + what);
}

bool is_set(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0';
}

// The number in the variable `name` of the environment; nothing where it is not set.
std::optional<std::uint64_t> find_number(const char* name) {
  if (!is_set(name)) return {};
  const std::string value = std::getenv(name);
  const std::optional<std::uint64_t> number = parse_number(value);
  if (!number)
    refuse(std::string(name) + ": expected a whole number up to " + std::to_string(kMostShards) +
           ", found " + shortened(value));
  return number;
}

std::uint64_t need_number(const char* name) {
  const std::optional<std::uint64_t> number = find_number(name);
  if (!number) refuse(std::string(kSlurm) + " is set, but not " + name);
  return *number;
}

// An array has gaps where its tasks were listed one by one, and where only some of them run again:
// nothing then tells which part was whose.
Shard slurm_shard() {
  const std::uint64_t id = need_number(kSlurm);
  const std::uint64_t low = need_number("SLURM_ARRAY_TASK_MIN");
  const std::uint64_t high = need_number("SLURM_ARRAY_TASK_MAX");
  const std::uint64_t step = find_number("SLURM_ARRAY_TASK_STEP").value_or(1);
  if (step == 0 || id < low || id > high || (id - low) % step != 0)
    refuse(format("task %llu is none of the Slurm array from %llu to %llu in steps of %llu",
                  static_cast<unsigned long long>(id), static_cast<unsigned long long>(low),
                  static_cast<unsigned long long>(high), static_cast<unsigned long long>(step)));
  const Shard shard{(id - low) / step, (high - low) / step + 1};
  const std::uint64_t tasks = find_number("SLURM_ARRAY_TASK_COUNT").value_or(shard.count);
  if (tasks != shard.count)
    refuse("the Slurm array has " + counted(tasks, "task") +
           ", but from its first to its last are " + std::to_string(shard.count) +
           ": which part is whose cannot be told; give --shard I/N");
  return shard;
}

Shard kubernetes_shard(std::optional<std::uint64_t> wanted) {
  const std::uint64_t index = find_number(kKubernetes).value_or(0);
  const std::optional<std::uint64_t> told = find_number("JOB_COMPLETIONS");
  const std::optional<std::uint64_t> count = told ? told : wanted;
  if (!count)
    refuse(std::string(kKubernetes) +
           " does not say of how many; give --shard auto/N with the completions of the job, or set "
           "JOB_COMPLETIONS");
  if (index >= *count)
    refuse(std::string(kKubernetes) + ": expected less than " + std::to_string(*count) +
           ", found " + std::to_string(index));
  return {index, *count};
}

Shard surrounding_shard(std::optional<std::uint64_t> wanted) {
  if (is_set(kSlurm) && is_set(kKubernetes))
    refuse(std::string(kSlurm) + " and " + kKubernetes + " are both set; give --shard I/N");
  if (!is_set(kSlurm) && !is_set(kKubernetes))
    refuse(std::string("neither ") + kSlurm + " nor " + kKubernetes +
           " is set: this is no task of an array and no pod of an indexed job");
  const Shard shard = is_set(kSlurm) ? slurm_shard() : kubernetes_shard(wanted);
  if (wanted && shard.count != *wanted)
    refuse("expected " + std::to_string(*wanted) + " shards, but the environment has " +
           std::to_string(shard.count) + "; give --shard I/N");
  return shard;
}

struct Words {
  std::string_view index;
  std::optional<std::string_view> count;  // Behind a slash.
};

Words split(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return {text, {}};
  return {text.substr(0, slash), text.substr(slash + 1)};
}

bool is_shard(std::string_view text) {
  const Words words = split(text);
  if (!words.count) return words.index == kAuto;
  const std::optional<std::uint64_t> count = parse_number(*words.count);
  if (!count || *count == 0) return false;
  if (words.index == kAuto) return true;
  const std::optional<std::uint64_t> index = parse_number(words.index);
  return index && *index >= 1 && *index <= *count;
}

}  // namespace

std::string Shard::name() const {
  const std::string all = std::to_string(count);
  const std::string one = std::to_string(index + 1);
  return std::string(all.size() - one.size(), '0') + one + "-of-" + all;
}

Option add_shard_flag(CLI::App& app, std::string& text) {
  return add_option(
             app, "--shard",
             [&text](const std::string& word) -> std::string {
               if (!is_shard(word)) return "expected I/N with I from 1 to N, auto or auto/N";
               text = word;
               return {};
             },
             "answer every Nth request only, from the Ith on (1/4 to 4/4); auto: as a Slurm array "
             "or an indexed Kubernetes job says; without --seed the seed is then 0")
      .show_type("I/N");
}

std::optional<Shard> find_shard(const std::string& text) {
  if (text.empty()) return {};
  const Words words = split(text);
  const std::optional<std::uint64_t> count =
      words.count ? parse_number(*words.count) : std::nullopt;
  if (words.index == kAuto) return surrounding_shard(count);
  return Shard{parse_number(words.index).value_or(1) - 1, count.value_or(1)};
}

std::string shard_variable() {
  if (is_set(kSlurm)) return kSlurm;
  return is_set(kKubernetes) ? kKubernetes : "";
}

std::string name_shard(std::string path, const std::optional<Shard>& shard) {
  constexpr std::string_view kPlace = "{shard}";
  std::size_t at = path.find(kPlace);
  if (at != std::string::npos && !shard)
    throw Error(ErrorCode::kUsage, path + " asks for the name of a shard, but there is no --shard");
  for (; at != std::string::npos; at = path.find(kPlace, at))
    path.replace(at, kPlace.size(), shard->name());
  return path;
}

}  // namespace cli
