#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace lapidary {

/// Where the system describes itself; tests point these at a tree of their own.
struct SystemPaths {
  std::string proc = "/proc";
  std::string sys = "/sys";
};

/// MemAvailable of /proc/meminfo in bytes.
std::optional<std::uint64_t> system_memory_available(const SystemPaths& paths = {});

/// Bytes that this process's cgroup (version 1 or 2) and those above it still allow, file cache
/// that can be dropped counted as free. Nothing: no limit.
std::optional<std::uint64_t> cgroup_memory_left(const SystemPaths& paths = {});

/// Processors' worth of time that the cgroups allow, e.g. 1.5. Nothing: no limit.
std::optional<double> cgroup_cpu_quota(const SystemPaths& paths = {});

/// How many physical cores the logical processors `cpus` lie on. One whose topology is unknown
/// counts as a core.
int physical_cores(std::span<const int> cpus, const SystemPaths& paths = {});

}  // namespace lapidary
