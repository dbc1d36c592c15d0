// What can be wrong with a folder of prefixes, and with what is in it: time is lost, no bit.

#include "runtime/prefix_folder.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <thread>

#include "prefix_fixture.h"

namespace lapidary::testing {
namespace {

namespace fs = std::filesystem;

class PrefixFaults : public PrefixFolders {
 protected:
  /// A prompt that the cache has, as it is without one.
  Reading fill() {
    const Reading first = read_prompt(prompt_, options());
    EXPECT_EQ(first.cached, 0);
    return first;
  }

  const Prompt prompt_ = text_from(1200, 1, 30, 1);
};

void write_file(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string file_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST_F(PrefixFaults, FoldersThatCannotBeUsed) {
  const Reading expected = read_fresh(prompt_, options());
  SessionOptions wrong = options();
  const auto expect_problem = [&](const std::string& folder, const std::string& said) {
    wrong.prefix_cache = folder;
    const Reading reading = read_prompt(prompt_, wrong);
    EXPECT_TRUE(reading.same_bits(expected));
    EXPECT_EQ(reading.stats.failures, 1);
    EXPECT_TRUE(contains(reading.stats.problem, folder + said)) << reading.stats.problem;
    EXPECT_EQ(reading.stats.written_bytes, 0);
  };
  write_file(folder_ / "file", "x");
  expect_problem((folder_ / "file").string(), ": Not a directory");
  expect_problem((folder_ / "file" / "within").string(), ": Not a directory");
  expect_problem("/proc/none", ": No such file or directory");
  for (const mode_t mode : {0777U, 0770U, 0722U}) {
    const std::string open = (folder_ / std::to_string(mode)).string();
    fs::create_directory(open);
    ::chmod(open.c_str(), mode);
    expect_problem(open, ": other users can write to the folder");
  }
  // What was made for a kind, too.
  fill();
  const fs::path kind = files().front().parent_path();
  ::chmod(kind.c_str(), 0777);
  expect_problem(cache(), "/lapidary-");
  fs::rename(kind, folder_ / "elsewhere");
  fs::create_directory_symlink(folder_ / "elsewhere", kind);
  expect_problem(cache(), "/lapidary-");
}

TEST_F(PrefixFaults, IsMadeForThisUserAlone) {
  SessionOptions deep = options();
  deep.prefix_cache = cache() + "/a/b/";
  EXPECT_EQ(read_prompt(prompt_, deep).stats.failures, 0);
  EXPECT_GT(read_prompt(prompt_, deep).cached, 0);
  struct stat status = {};
  for (const fs::path& file : files()) {
    ASSERT_EQ(::stat(file.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600);
    ASSERT_EQ(::stat(file.parent_path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0700);
  }
}

TEST_F(PrefixFaults, DamageIsToldRemovedAndWrittenAgain) {
  const Reading expected = fill();
  ASSERT_GT(read_prompt(prompt_, options()).cached, 1200);
  const std::vector<fs::path> whole = files();
  ASSERT_GE(whole.size(), 4);
  std::mt19937 random(3);
  for (const fs::path& path : whole) {
    const std::string bytes = file_text(path);
    for (int i = 0; i < 14; ++i) {
      std::string bad = bytes;
      // Heads, pages and checksums; then cut, longer, empty, and something else.
      const std::size_t near[] = {random() % 120, bytes.size() - 1 - random() % 32,
                                  random() % bytes.size()};
      bad[near[i % 3]] = static_cast<char>(bad[near[i % 3]] ^ (1 << random() % 8));
      if (i == 10) bad.resize(random() % bytes.size());
      if (i == 11) bad += 'x';
      if (i == 12) bad.clear();
      if (i == 13) bad = file_text(path == whole[0] ? whole[1] : whole[0]);
      write_file(path, bad);
      const Reading reading = read_prompt(prompt_, options());
      ASSERT_TRUE(reading.same_bits(expected)) << path << " " << i;
      // Those of the longest place are read.
      const bool read = path == whole[0] || path == whole.back();
      if (read) {
        EXPECT_EQ(reading.stats.damaged_files, 1) << path << " " << i;
      }
      if (!read) write_file(path, bytes);
    }
    // Where little lies behind another place it is not worth to be written again.
    EXPECT_GT(read_prompt(prompt_, options()).cached, 1100);
    write_file(path, bytes);
  }
  EXPECT_EQ(files(), whole);
}

TEST_F(PrefixFaults, WhatIsNoFileIsNotRead) {
  const Reading expected = fill();
  for (const fs::path& path : files()) {
    const std::string bytes = file_text(path);
    fs::remove(path);
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    EXPECT_TRUE(read_prompt(prompt_, options()).same_bits(expected));
    fs::remove(path);
    write_file(folder_ / "aside", bytes);
    fs::create_symlink(folder_ / "aside", path);
    EXPECT_TRUE(read_prompt(prompt_, options()).same_bits(expected));
    EXPECT_EQ(file_text(folder_ / "aside"), bytes);
    fs::remove(path);
    fs::create_directory(path);
    EXPECT_TRUE(read_prompt(prompt_, options()).same_bits(expected));
    fs::remove(path);
    write_file(path, bytes);
  }
  // Foreign files are none of ours.
  for (int i = 0; i < 300; ++i)
    write_file(files().front().parent_path() / ("other" + std::to_string(i) + ".kv"), "x");
  const Reading reading = read_prompt(prompt_, options());
  EXPECT_TRUE(reading.same_bits(expected));
  EXPECT_GT(reading.cached, 1200);
}

TEST_F(PrefixFaults, FilesOfAnotherKindUnderTheRightNames) {
  const Reading expected = fill();
  read_prompt(prompt_, options(KvType::kInt8));
  // Pages of the same text, but the other kind: names differ by hash, so give them the right ones.
  std::vector<fs::path> kinds;
  for (const auto& entry : fs::directory_iterator(cache())) kinds.push_back(entry.path());
  ASSERT_EQ(kinds.size(), 2);
  for (const fs::path& to : kinds) {
    for (const auto& entry : fs::directory_iterator(to)) {
      const std::string start = entry.path().filename().string().substr(0, 10);
      for (const auto& other : fs::directory_iterator(to == kinds[0] ? kinds[1] : kinds[0])) {
        if (!other.path().filename().string().starts_with(start)) continue;
        const std::string bytes = file_text(other.path());
        write_file(entry.path(), bytes);
      }
    }
  }
  EXPECT_TRUE(read_prompt(prompt_, options()).same_bits(expected));
}

TEST_F(PrefixFaults, TakesNoMoreThanItMay) {
  SessionOptions small = options();
  read_prompt(text_from(1200, 9, 30, 1), small);
  const std::uintmax_t one = file_bytes();
  small.prefix_cache_size = 2 * one;
  for (unsigned text = 0; text < 6; ++text) {
    const Prompt prompt = text_from(1200, text, 30, 1);
    read_prompt(prompt, small);
    EXPECT_LE(file_bytes(), 2 * one);
    EXPECT_GT(read_prompt(prompt, small).cached, 1200) << "what was written last is there";
  }
  // What is used stays: the first of three that take turns.
  const Prompt used = text_from(1200, 5, 30, 1);
  for (unsigned text = 10; text < 14; ++text) {
    EXPECT_GT(read_prompt(used, small).cached, 1200);
    read_prompt(text_from(600, text, 30, 1), small);
  }
  // One that does not fit at all is not begun.
  small.prefix_cache_size = one / 8;
  const std::uintmax_t before = file_bytes();
  const PrefixCacheStats stats = read_prompt(text_from(1200, 20, 30, 1), small).stats;
  EXPECT_EQ(stats.written_bytes, 0);
  EXPECT_TRUE(contains(stats.problem, " that it may take")) << stats.problem;
  EXPECT_LE(file_bytes(), before);
}

TEST_F(PrefixFaults, WhatKilledWritersLeftIsRemoved) {
  fill();
  const fs::path kind = files().front().parent_path();
  for (const int age : {0, 3600}) {
    const fs::path path = kind / ("w.partial" + std::to_string(age) + ".partial");
    write_file(path, "x");
    const timespec then{::time(nullptr) - age, 0};
    const timespec times[] = {then, then};
    ::utimensat(AT_FDCWD, path.c_str(), times, 0);
  }
  read_prompt(text_from(600, 2, 30, 1), options());
  EXPECT_TRUE(fs::exists(kind / "w.partial0.partial")) << "somebody may be writing it";
  EXPECT_FALSE(fs::exists(kind / "w.partial3600.partial"));
}

/// Runs `body` in a child; returns its exit status.
template <class F>
int in_child(F&& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST_F(PrefixFaults, AFullDisk) {
  const Reading expected = read_fresh(prompt_, options());
  const int status = in_child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100'000, 100'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const Reading reading = read_prompt(prompt_, options());
    const bool failed = reading.stats.failures > 0 &&
                        contains(reading.stats.problem, ": cannot be written: File too large");
    return reading.same_bits(expected) && failed ? 0 : 1;
  });
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(files().empty());
}

/// How many moments; the environment asks for more.
int kills() {
  const char* const more = std::getenv("LAPIDARY_TEST_KILLS");
  return more == nullptr ? 10 : std::atoi(more);
}

TEST_F(PrefixFaults, TwoWritersThatAreKilled) {
  std::vector<Prompt> prompts;
  std::vector<Reading> expected;
  for (unsigned i = 0; i < 4; ++i) {
    prompts.push_back(text_from(1100, i / 2, 300 + 10 * i, i));
    expected.push_back(read_fresh(prompts.back(), options()));
  }
  const auto write_for_ever = [&] {
    for (std::size_t i = 0;; ++i) {
      const std::size_t text = i % prompts.size();
      if (!read_prompt(prompts[text], options()).same_bits(expected[text])) ::_exit(1);
      if (i % 3 != 2) continue;
      for (const fs::path& file : files()) ::unlink(file.c_str());
    }
  };
  std::mt19937 random(11);
  for (int i = 0; i < kills(); ++i) {
    pid_t writers[2];
    for (pid_t& writer : writers) {
      writer = ::fork();
      if (writer == 0) write_for_ever();
    }
    std::this_thread::sleep_for(std::chrono::microseconds(20'000 + random() % 300'000));
    for (const pid_t writer : writers) {
      ::kill(writer, SIGKILL);
      int status = 0;
      ::waitpid(writer, &status, 0);
      ASSERT_TRUE(WIFSIGNALED(status)) << "a writer has read what was wrong";
    }
    const std::size_t text = random() % prompts.size();
    const Reading reading = read_prompt(prompts[text], options());
    ASSERT_TRUE(reading.same_bits(expected[text])) << i;
    ASSERT_EQ(reading.stats.damaged_files, 0) << i;
  }
}

}  // namespace
}  // namespace lapidary::testing
