#include "base/memory.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "lapidary/error.h"

namespace lapidary {
namespace {

namespace fs = std::filesystem;

TEST(HugeBuffer, IsAlignedZeroedAndWritable) {
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{4096}, std::size_t{(2 << 20) - 1},
                                  std::size_t{2 << 20}, std::size_t{(5 << 20) + 3}}) {
    const HugeBuffer buffer(bytes);
    ASSERT_EQ(buffer.size(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % (2 << 20), 0U);
    EXPECT_EQ(buffer.data()[0], std::byte{0});
    EXPECT_EQ(buffer.data()[bytes - 1], std::byte{0});
    buffer.data()[0] = std::byte{1};
    buffer.data()[bytes - 1] = std::byte{2};
    EXPECT_EQ(buffer.data()[bytes - 1], std::byte{2});
  }
}

TEST(HugeBuffer, MovesAndMayBeEmpty) {
  const HugeBuffer nothing(0);
  EXPECT_EQ(nothing.data(), nullptr);
  EXPECT_EQ(nothing.size(), 0U);
  HugeBuffer first(100);
  std::byte* const data = first.data();
  data[5] = std::byte{7};
  HugeBuffer second(std::move(first));
  EXPECT_EQ(second.data(), data);
  HugeBuffer third;
  third = std::move(second);
  ASSERT_EQ(third.data(), data);
  EXPECT_EQ(third.size(), 100U);
  EXPECT_EQ(third.data()[5], std::byte{7});
}

TEST(HugeBuffer, TooMuchIsAMemoryError) {
  for (const std::size_t bytes : {std::numeric_limits<std::size_t>::max(), std::size_t{1} << 60}) {
    try {
      const HugeBuffer buffer(bytes);
      FAIL() << bytes << " bytes were granted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kMemory);
      EXPECT_NE(std::string(error.what()).find(std::to_string(bytes)), std::string::npos);
    }
  }
}

// Reserving more than there is works, as long as it is not touched.
TEST(HugeBuffer, ReservesWithoutTaking) {
  const HugeBuffer buffer(std::size_t{1} << 36);
  buffer.data()[std::size_t{1} << 35] = std::byte{1};
  EXPECT_EQ(buffer.data()[std::size_t{1} << 35], std::byte{1});
}

TEST(Arena, HandsOutAlignedPiecesThatDoNotOverlap) {
  Arena arena(Arena::planned(1) + Arena::planned(100) + Arena::planned(3 * sizeof(float)));
  std::byte* const first = arena.allocate(1);
  std::byte* const second = arena.allocate(100);
  std::byte* const third = arena.allocate(3 * sizeof(float));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first) % 64, 0U);
  EXPECT_EQ(second, first + 64);
  EXPECT_EQ(third, second + 128);
  try {
    arena.allocate(1);
    FAIL() << "a full arena gave more";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kMemory);
  }
  EXPECT_THROW(Arena(64).allocate(std::numeric_limits<std::size_t>::max()), Error);
}

TEST(AvailableMemory, IsPlausible) {
  EXPECT_GT(available_memory(), std::uint64_t{1} << 20);
  EXPECT_LT(available_memory(), std::uint64_t{1} << 50);
}

/// A made-up system under a temporary folder.
class FakeSystem : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "lapidary-system-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    paths_ = {(root_ / "proc").string(), (root_ / "sys").string()};
  }
  void TearDown() override { fs::remove_all(root_); }

  void put(const std::string& path, const std::string& text) const {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }

  fs::path root_;
  SystemPaths paths_;
};

TEST_F(FakeSystem, NothingThereIsNoLimit) {
  EXPECT_FALSE(system_memory_available(paths_));
  EXPECT_FALSE(cgroup_memory_left(paths_));
  EXPECT_FALSE(cgroup_cpu_quota(paths_));
}

TEST_F(FakeSystem, MemInfo) {
  put("proc/meminfo", "MemTotal:  100 kB\nMemFree: 7 kB\nMemAvailable:      42 kB\nCached: 1 kB\n");
  EXPECT_EQ(system_memory_available(paths_), 42U * 1024);
}

TEST_F(FakeSystem, MemoryOfVersion2IsTheTightestOfAllLevels) {
  put("proc/self/cgroup", "0::/outer/inner\n");
  put("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  put("sys/fs/cgroup/outer/memory.max", "1000\n");
  put("sys/fs/cgroup/outer/memory.current", "700\n");
  put("sys/fs/cgroup/outer/memory.stat", "anon 100\ninactive_file 250\nactive_file 9\n");
  EXPECT_EQ(cgroup_memory_left(paths_), 1000U - (700U - 250U));
  put("sys/fs/cgroup/outer/inner/memory.max", "500\n");
  put("sys/fs/cgroup/outer/inner/memory.current", "600\n");
  EXPECT_EQ(cgroup_memory_left(paths_), 0U);
}

TEST_F(FakeSystem, MemoryOfVersion1) {
  put("proc/self/cgroup", "5:memory:/not-mounted-here\n1:name=systemd:/\n");
  put("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000\n");
  put("sys/fs/cgroup/memory/memory.usage_in_bytes", "400\n");
  put("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 100\n");
  EXPECT_EQ(cgroup_memory_left(paths_), 700U);
}

TEST_F(FakeSystem, QuotaOfVersion2) {
  put("proc/self/cgroup", "0::/a\n");
  put("sys/fs/cgroup/a/cpu.max", "max 100000\n");
  EXPECT_FALSE(cgroup_cpu_quota(paths_));
  put("sys/fs/cgroup/cpu.max", "150000 100000\n");
  EXPECT_EQ(cgroup_cpu_quota(paths_), 1.5);
}

TEST_F(FakeSystem, QuotaOfVersion1) {
  put("proc/self/cgroup", "4:cpu,cpuacct:/a\n");
  put("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1\n");
  put("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
  EXPECT_FALSE(cgroup_cpu_quota(paths_));
  put("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "400000\n");
  EXPECT_EQ(cgroup_cpu_quota(paths_), 4.0);
}

TEST_F(FakeSystem, CoresCountOnce) {
  for (const int cpu : {0, 1, 2, 3}) {
    put("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list",
        cpu % 2 == 0 ? "0,2\n" : "1,3\n");
  }
  EXPECT_EQ(physical_cores(std::vector{0, 1, 2, 3}, paths_), 2);
  EXPECT_EQ(physical_cores(std::vector{0, 2}, paths_), 1);
  EXPECT_EQ(physical_cores(std::vector{0, 7, 8}, paths_), 3);  // Two without a description.
}

}  // namespace
}  // namespace lapidary
