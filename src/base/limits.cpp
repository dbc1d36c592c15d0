#include "base/limits.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>
#include <string_view>

#include "base/format.h"

namespace lapidary {

namespace {

std::optional<std::string> first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  if (!std::getline(in, line)) return std::nullopt;
  return line;
}

template <class T>
std::optional<T> parse_number(std::string_view text) {
  T value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> number_in(const std::string& path) {
  const std::optional<std::string> line = first_line(path);
  return line ? parse_number<std::uint64_t>(*line) : std::nullopt;  // "max" is no number: no limit.
}

/// The number behind `name` in a file of "name number" or "name: number" lines.
std::optional<std::uint64_t> field_in(const std::string& path, std::string_view name) {
  std::ifstream in(path);
  std::string word;
  std::uint64_t value = 0;
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    if (fields >> word >> value && word == name) return value;
  }
  return std::nullopt;
}

/// Calls `visit` with the folder of this process's cgroup for `controller` ("" for version 2) and
/// of every one above it. In a container the path may name folders that are not mounted; the root
/// of the mount then holds the limits.
void visit_cgroups(const SystemPaths& paths, std::string_view controller,
                   const std::function<void(const std::string& folder)>& visit) {
  std::ifstream in(paths.proc + "/self/cgroup");
  for (std::string line; std::getline(in, line);) {  // "4:cpu,cpuacct:/path"
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool match = controller.empty()
                           ? names == ",,"
                           : names.find("," + std::string(controller) + ",") != std::string::npos;
    if (!match) continue;
    std::string root = paths.sys + "/fs/cgroup";
    if (!controller.empty()) root += "/" + std::string(controller);
    for (std::string path = line.substr(second + 1); path.size() > 1;) {
      visit(root + path);
      path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
    visit(root);
    return;
  }
}

}  // namespace

std::optional<std::uint64_t> system_memory_available(const SystemPaths& paths) {
  const auto kibibytes = field_in(paths.proc + "/meminfo", "MemAvailable:");
  if (!kibibytes) return std::nullopt;
  return *kibibytes * 1024;
}

std::optional<std::uint64_t> cgroup_memory_left(const SystemPaths& paths) {
  std::optional<std::uint64_t> left;
  const auto check = [&left](const std::string& folder, const char* limit_name,
                             const char* usage_name, const char* cache_name) {
    const auto limit = number_in(folder + limit_name);
    if (!limit) return;
    const std::uint64_t usage = number_in(folder + usage_name).value_or(0);
    const std::uint64_t cache = field_in(folder + "/memory.stat", cache_name).value_or(0);
    const std::uint64_t used = usage - std::min(cache, usage);
    const std::uint64_t here = *limit - std::min(used, *limit);
    left = std::min(left.value_or(here), here);
  };
  visit_cgroups(paths, "", [&](const std::string& folder) {
    check(folder, "/memory.max", "/memory.current", "inactive_file");
  });
  visit_cgroups(paths, "memory", [&](const std::string& folder) {
    check(folder, "/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_inactive_file");
  });
  return left;
}

std::optional<double> cgroup_cpu_quota(const SystemPaths& paths) {
  std::optional<double> quota;
  const auto check = [&quota](std::optional<std::int64_t> time,
                              std::optional<std::int64_t> period) {
    if (!time || !period || *time <= 0 || *period <= 0) return;  // -1: no limit.
    const double here = static_cast<double>(*time) / static_cast<double>(*period);
    quota = std::min(quota.value_or(here), here);
  };
  visit_cgroups(paths, "", [&](const std::string& folder) {
    const std::string line = first_line(folder + "/cpu.max").value_or("");  // "150000 100000"
    const std::size_t space = line.find(' ');
    if (space == std::string::npos) return;
    check(parse_number<std::int64_t>(line), parse_number<std::int64_t>(line.substr(space + 1)));
  });
  visit_cgroups(paths, "cpu", [&](const std::string& folder) {
    const auto value = [&folder](const char* name) {
      return parse_number<std::int64_t>(first_line(folder + name).value_or(""));
    };
    check(value("/cpu.cfs_quota_us"), value("/cpu.cfs_period_us"));
  });
  return quota;
}

int physical_cores(std::span<const int> cpus, const SystemPaths& paths) {
  std::set<std::string> cores;
  for (const int cpu : cpus) {
    const std::string name = format("cpu{}", cpu);
    const std::string folder = paths.sys + "/devices/system/cpu/" + name + "/topology/";
    // All logical processors of a core have the same list.
    cores.insert(first_line(folder + "thread_siblings_list").value_or(name));
  }
  return static_cast<int>(cores.size());
}

}  // namespace lapidary
